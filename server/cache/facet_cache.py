"""Facets of collections, cached in proportion to the time that they take to count."""

from server.cache.single_flight import SingleFlightCache
from shared.db.pool import Database
from shared.models import Collection, Facets
from shared.sql import facets

MAX_ENTRIES = 500
MIN_TTL = 2.0  # seconds
# Counting the facets of a large collection then takes at most 2 % of a database connection's time.
TTL_PER_LOAD_SECOND = 50


class FacetCache:
    """The values that filters offer in each collection, with their counts."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._facets: SingleFlightCache[tuple[str, str | None], Facets] = SingleFlightCache(
            max_entries=MAX_ENTRIES, ttl=MIN_TTL, ttl_per_load_second=TTL_PER_LOAD_SECOND
        )

    async def get(self, collection: Collection, folder: str | None = None) -> Facets:
        """Return the collection's facets with the folders directly below *folder*, from some moments ago."""
        return await self._facets.get((collection.bucket, folder), self._database.read, facets.read, collection, folder)
