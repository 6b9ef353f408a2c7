"""What filters have to choose from, read now and then."""

import asyncio
import time
from collections import OrderedDict

from shared.db.pool import Database
from shared.models import Collection, Facets
from shared.sql import facets

KEPT = 500  # answers
# An answer serves this many times as long as it took to make: however large the collections, reading them takes no more
# than a small part of the database's time.
WORTH = 50
FRESH = 2.0  # seconds that it serves at least


class FacetCache:
    """The facets of collections. Those who ask for the same at the same time share one look at the database."""

    def __init__(self) -> None:
        self._known: OrderedDict[tuple[str, str | None], tuple[Facets, float]] = OrderedDict()
        self._read: dict[tuple[str, str | None], asyncio.Task[Facets]] = {}

    async def of(self, database: Database, collection: Collection, folder: str | None) -> Facets:
        """Return the collection's facets, and the folders right below *folder*, as they were some moments ago."""
        wanted = (collection.bucket, folder)
        known, until = self._known.get(wanted, (None, 0.0))
        if known and time.monotonic() < until:
            return known
        if wanted not in self._read:
            task = asyncio.create_task(self._look(database, collection, folder))
            self._read[wanted] = task
            task.add_done_callback(lambda _: self._read.pop(wanted))
        # Who goes away meanwhile does not end the look of the others.
        return await asyncio.shield(self._read[wanted])

    async def _look(self, database: Database, collection: Collection, folder: str | None) -> Facets:
        began = time.monotonic()
        found = await database.read(facets.read, collection=collection, folder=folder)
        ended = time.monotonic()
        self._known[collection.bucket, folder] = found, ended + max(FRESH, WORTH * (ended - began))
        self._known.move_to_end((collection.bucket, folder))
        if len(self._known) > KEPT:
            self._known.popitem(last=False)
        return found
