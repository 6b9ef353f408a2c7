"""The list of collections, their sizes, facets and timelines, cached for some seconds."""

from psycopg.errors import UndefinedTable

from server.cache.single_flight import SingleFlightCache
from shared.db.pool import Connection, Database
from shared.errors import ServiceError
from shared.models import Collection, Facets, Filters, MonthCount
from shared.sql import Statement, collections, facets, places, stats, suggestions, timeline
from shared.sql.filters import EVERYTHING

TTL = 1.0  # seconds
MAX_COUNTS = 10_000  # collections
# Counting a million images by facet or month takes up to a second: a small share of one connection's time.
FACETS_TTL = 15.0  # seconds
MAX_FACETS = 500
MAX_TIMELINES = 500
VALUES_TTL = 60.0  # seconds


class CollectionCache:
    """All collections of the database, oldest first, and the counts, facets, keywords, places and timeline of each."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._all: SingleFlightCache[None, list[Collection]] = SingleFlightCache(max_entries=1, ttl=TTL)
        self._embedded: SingleFlightCache[tuple[str, str], int] = SingleFlightCache(max_entries=MAX_COUNTS, ttl=TTL)
        self._facets: SingleFlightCache[tuple[str, Filters, str], Facets] = SingleFlightCache(
            max_entries=MAX_FACETS, ttl=FACETS_TTL
        )
        self._timelines: SingleFlightCache[tuple[str, Filters], list[MonthCount]] = SingleFlightCache(
            max_entries=MAX_TIMELINES, ttl=FACETS_TTL
        )
        self._values: SingleFlightCache[str, Facets] = SingleFlightCache(max_entries=MAX_FACETS, ttl=VALUES_TTL)
        self._keywords: SingleFlightCache[str, dict[str, tuple[str, int]]] = SingleFlightCache(
            max_entries=MAX_FACETS, ttl=VALUES_TTL
        )
        self._place_names: SingleFlightCache[str, dict[str, str]] = SingleFlightCache(
            max_entries=MAX_FACETS, ttl=VALUES_TTL
        )

    async def all(self) -> list[Collection]:
        """Return the collections, at most a second old."""
        return await self._all.get(None, self._read)

    async def embedded(self, collection: Collection) -> int:
        """Return how many images of the collection have a vector, at most a second old."""
        key = collection.bucket, collection.model
        return await self._embedded.get(key, self._database.read, _count_embedded, collection)

    async def facets(
        self, collection: Collection, filters: Filters, matching: Statement | None = None, scope: str = ""
    ) -> Facets:
        """Return facets of all images, or of those that *matching* selects, at most FACETS_TTL old.

        *scope* identifies the statement *matching* in the cache.
        """
        key = collection.bucket, filters, scope
        return await self._facets.get(key, self._database.read, facets.read, collection, filters, matching)

    async def values(self, collection: Collection) -> Facets:
        """Return facets of all images, at most VALUES_TTL old."""
        return await self._values.get(collection.bucket, self._database.read, facets.read, collection, EVERYTHING)

    async def keywords(self, collection: Collection) -> dict[str, tuple[str, int]]:
        """Return the collection's keywords as shared.sql.suggestions does, at most VALUES_TTL old."""
        return await self._keywords.get(collection.bucket, self._database.read, suggestions.keywords, collection)

    async def place_names(self, collection: Collection) -> dict[str, str]:
        """Return the names of the collection's places as shared.sql.places does, at most VALUES_TTL old."""
        return await self._place_names.get(collection.bucket, self._database.read, places.names, collection)

    async def timeline(self, collection: Collection, filters: Filters) -> list[MonthCount]:
        """Return the months of the images that pass the filters, latest first, at most FACETS_TTL old."""
        key = collection.bucket, filters
        return await self._timelines.get(key, self._database.read, timeline.months, collection, filters)

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
