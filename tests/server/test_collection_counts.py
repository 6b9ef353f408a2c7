"""Counts of collections, one of which is dropped meanwhile."""

from dataclasses import replace
from datetime import UTC, datetime

from server.collection_counts import collection_counts
from shared.db.pool import Database
from shared.sql import collections


async def test_a_collection_that_has_been_dropped_is_left_out(database: Database) -> None:
    kept = await database.run(collections.ensure, "b", model="offline-v1", dimensions=384, now=datetime.now(UTC))
    dropped = replace(kept, bucket="dropped", base="dropped")
    counts = await collection_counts(database, [dropped, kept])
    assert list(counts) == [kept]
