"""Counts of all collections that a request may see."""

from collections.abc import Sequence
from contextlib import suppress

from psycopg.errors import UndefinedTable

from server.context import AppContext
from shared.db.pool import Connection
from shared.models import Collection, Counts
from shared.sql import stats


async def collection_counts(context: AppContext) -> dict[Collection, Counts]:
    """Return the collections that the request may see, with their counts."""
    return await context.database.read(_read, await context.collections())


async def _read(conn: Connection, collections: Sequence[Collection]) -> dict[Collection, Counts]:
    counts = {}
    for collection in collections:
        with suppress(UndefinedTable):  # it was dropped, and the cached list does not say so yet
            counts[collection] = await stats.counts(conn, collection)
    return counts
