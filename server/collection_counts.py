"""Counts of several collections."""

from collections.abc import Sequence
from contextlib import suppress

from psycopg.errors import UndefinedTable

from shared.db.pool import Connection, Database
from shared.models import Collection, Counts
from shared.sql import stats


async def collection_counts(database: Database, collections: Sequence[Collection]) -> dict[Collection, Counts]:
    """Return the counts of *collections*, without those that have been dropped meanwhile."""
    return await database.read(_read, collections)


async def _read(conn: Connection, collections: Sequence[Collection]) -> dict[Collection, Counts]:
    counts = {}
    for collection in collections:
        with suppress(UndefinedTable):
            counts[collection] = await stats.counts(conn, collection)
    return counts
