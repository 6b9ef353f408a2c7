"""Facets of collections, cached for some seconds."""

from server.cache.single_flight import SingleFlightCache
from shared.db.pool import Database
from shared.models import Collection, Facets
from shared.sql import facets

MAX_ENTRIES = 500
# Counting the facets of a million images takes some tenths of a second: a small share of one connection's time.
TTL = 15.0  # seconds


class FacetCache:
    """The values that filters offer in each collection, with their counts."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._facets: SingleFlightCache[tuple[str, str | None], Facets] = SingleFlightCache(
            max_entries=MAX_ENTRIES, ttl=TTL
        )

    async def get(self, collection: Collection, folder: str | None = None) -> Facets:
        """Return the collection's facets with the folders directly below *folder*, from some moments ago."""
        return await self._facets.get((collection.bucket, folder), self._database.read, facets.read, collection, folder)
