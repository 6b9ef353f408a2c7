"""Pruning of the vectors of query texts."""

from datetime import UTC, datetime, timedelta

from shared.db.pool import Connection, Database
from shared.sql import query_vectors

NOW = datetime(2026, 1, 1, tzinfo=UTC)


async def digests(conn: Connection) -> list[int]:
    rows = await (await conn.execute("SELECT digest FROM query_vectors ORDER BY digest")).fetchall()
    return [digest[0] for (digest,) in rows]


async def test_pruning_deletes_unused_texts_and_the_oldest_beyond_the_maximum(database: Database) -> None:
    for age in range(10):
        used_at = NOW - timedelta(days=age)
        await database.run(query_vectors.save, "m", bytes([age]), [1.0, 0.0], now=used_at)
    unused_since = NOW - timedelta(days=7)
    assert await database.run(query_vectors.prune, unused_since=unused_since, keep=100) == 2
    assert await database.run(query_vectors.prune, unused_since=unused_since, keep=5) == 3
    assert await database.run(digests) == [0, 1, 2, 3, 4]
