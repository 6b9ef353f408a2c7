"""Fill columns that are derived from others: places from coordinates, and the colours of rows of earlier versions."""

import asyncio
import contextlib

from shared.images.palette import colour_codes_of_files
from shared.models import Collection
from shared.sql import colours, places
from syncer.context import CommandContext
from syncer.gazetteer import Gazetteer

BATCH = 500  # images per transaction
POLL = 5.0  # seconds between looks at new images


class Backfill:
    """Fills the derived columns of one collection. Any number of these may run at once."""

    def __init__(self, context: CommandContext, collection: Collection) -> None:
        self._context = context
        self._collection = collection
        self._finishing = asyncio.Event()
        self._gazetteer: Gazetteer | None = None

    def finish(self) -> None:
        """Let ``run`` return when no row lacks a value: no further images will be added."""
        self._finishing.set()

    async def run(self) -> None:
        """Fill until ``finish`` was called and no row lacks a value.

        Raises ServiceError if an outage outlasts the retry policy.
        """
        while await self._fill_colours():
            pass
        is_last = False
        while not is_last:
            is_last = self._finishing.is_set()
            while await self._fill_places():
                pass
            if not is_last:
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(POLL):
                        await self._finishing.wait()

    async def _fill_colours(self) -> bool:
        """Fill the colours of some images from their placeholders; return whether there were any."""
        database = self._context.database
        found = await database.run(colours.missing, self._collection, limit=BATCH)
        if found:
            codes = await self._context.decoder.run(colour_codes_of_files, list(found.values()))
            await database.run(colours.fill, self._collection, dict(zip(found, codes, strict=True)))
        return bool(found)

    async def _fill_places(self) -> bool:
        """Fill the places of some images from their coordinates; return whether there were any."""
        database = self._context.database
        found = await database.run(places.missing, self._collection, limit=BATCH)
        if found and self._gazetteer is None:
            self._gazetteer = await asyncio.to_thread(Gazetteer.load)
        if not found or self._gazetteer is None:
            return False
        gazetteer = self._gazetteer
        located = await asyncio.to_thread(lambda: {position: gazetteer.find(position) for position in found})
        await database.run(places.fill, self._collection, located)
        return True
