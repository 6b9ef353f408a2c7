"""The list of collections and their sizes, cached for a second."""

from psycopg.errors import UndefinedTable

from server.cache.single_flight import SingleFlightCache
from shared.db.pool import Connection, Database
from shared.errors import ServiceError
from shared.models import Collection
from shared.sql import collections, stats

TTL = 1.0  # seconds
MAX_COUNTS = 10_000  # collections


class CollectionCache:
    """All collections of the database, oldest first, and how many embedded images each has."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._all: SingleFlightCache[None, list[Collection]] = SingleFlightCache(max_entries=1, ttl=TTL)
        self._embedded: SingleFlightCache[tuple[str, str], int] = SingleFlightCache(max_entries=MAX_COUNTS, ttl=TTL)

    async def all(self) -> list[Collection]:
        """Return the collections, at most a second old."""
        return await self._all.get(None, self._read)

    async def embedded(self, collection: Collection) -> int:
        """Return how many images of the collection have a vector, at most a second old."""
        key = collection.bucket, collection.model
        return await self._embedded.get(key, self._database.read, _count_embedded, collection)

    def clear(self) -> None:
        """Read the collections again at the next call: a cached one turned out to be stale."""
        self._all.clear()

    async def _read(self) -> list[Collection]:
        try:
            return await self._database.read(collections.list_all)
        except UndefinedTable as exc:
            raise ServiceError("the database has no tables yet: run `syncer migrate`", transient=True) from exc


async def _count_embedded(conn: Connection, collection: Collection) -> int:
    return (await stats.counts(conn, collection)).embedded
