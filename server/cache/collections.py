"""The collections that there are and how large they are, known without asking the database for each request."""

import asyncio
import time

from shared.db.pool import Database
from shared.models import Collection
from shared.sql import collections, vector_search

LATELY = 1.0  # seconds


class CollectionCache:
    """All collections of the database, oldest first."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._found: list[Collection] = []
        self._until = 0.0
        self._embedded: dict[tuple[str, str], tuple[float, int]] = {}
        self._asking: asyncio.Task[list[Collection]] | None = None

    async def lately(self) -> list[Collection]:
        """Return the collections as they were within the last second; those who ask meanwhile share one query."""
        if time.monotonic() < self._until:
            return self._found
        if self._asking is None or self._asking.done():
            self._asking = asyncio.create_task(self.now())
        # Who goes away meanwhile does not end the query of the others.
        return await asyncio.shield(self._asking)

    async def now(self) -> list[Collection]:
        """Return the collections as they are."""
        self._found = await self._database.read(collections.list_all)
        self._until = time.monotonic() + LATELY
        return self._found

    async def embedded(self, collection: Collection) -> int:
        """Return how many images of the collection had a vector within the last second."""
        name = collection.bucket, collection.model
        until, count = self._embedded.get(name, (0.0, 0))
        if time.monotonic() >= until:
            count = await self._database.read(vector_search.embedded, collection=collection)
            self._embedded[name] = time.monotonic() + LATELY, count
        return count

    def forget(self) -> None:
        """Ask again next time: what was known turned out to be old."""
        self._until = 0.0
