"""How far a collection is: counts, failures by reason, speed and model calls."""

from datetime import datetime, timedelta
from typing import Any

from psycopg import AsyncConnection

from shared.models import Collection, Counts
from shared.sql import for_collection

SLOTS = 16  # rows that writers of the same minute spread over, so that they do not wait for each other


async def counts(conn: AsyncConnection[Any], collection: Collection) -> Counts:
    """Return the collection's counts, from what triggers keep: no table is counted but that of rejected files."""
    cur = await conn.execute(
        for_collection(
            """
            SELECT (SELECT coalesce(sum(images), 0)::bigint FROM {counts}),
                   (SELECT coalesce(sum(pending), 0)::bigint FROM {counts} WHERE model = %(model)s),
                   (SELECT coalesce(sum(failed), 0)::bigint FROM {counts} WHERE model = %(model)s),
                   (SELECT count(*) FROM {files} WHERE reason IS NOT NULL)
            """,
            collection,
        ),
        {"model": collection.model},
    )
    row = await cur.fetchone()
    assert row is not None
    images, pending, failed, rejected = row
    return Counts(
        total=images + rejected, embedded=images - pending - failed, pending=pending, failed=failed + rejected
    )


async def reasons(conn: AsyncConnection[Any], collection: Collection) -> dict[str, int]:
    """Return how many images and files were given up, by reason."""
    cur = await conn.execute(
        for_collection(
            """
            SELECT reason, sum(n)::bigint
              FROM (SELECT reason, count(*) AS n FROM {queue}
                     WHERE model = %(model)s AND state = 'failed' GROUP BY reason
                    UNION ALL
                    SELECT reason, count(*) FROM {files} WHERE reason IS NOT NULL GROUP BY reason) AS both_kinds
             GROUP BY reason ORDER BY reason
            """,
            collection,
        ),
        {"model": collection.model},
    )
    return dict(await cur.fetchall())


async def record(
    conn: AsyncConnection[Any],
    collection: Collection,
    model: str,
    *,
    began: datetime,
    now: datetime,
    slot: int,
    embedded: int,
    calls: int,
) -> None:
    """Add to what was done in this minute; the work in question began at *began*."""
    await conn.execute(
        "INSERT INTO activity AS a (bucket, model, minute, slot, since, embedded, calls)"
        " VALUES (%s, %s, %s, %s, %s, %s, %s) ON CONFLICT (bucket, model, minute, slot)"
        " DO UPDATE SET embedded = a.embedded + excluded.embedded, calls = a.calls + excluded.calls",
        [collection.bucket, model, now.replace(second=0, microsecond=0), slot % SLOTS, began, embedded, calls],
    )


async def rate_per_minute(conn: AsyncConnection[Any], collection: Collection, *, now: datetime) -> float:
    """Return how many images got their vector per minute, over the last five minutes in which work was done."""
    cur = await conn.execute(
        "SELECT coalesce(sum(embedded), 0)::bigint, min(since) FROM activity"
        " WHERE bucket = %s AND model = %s AND minute > %s",
        [collection.bucket, collection.model, now - timedelta(minutes=5)],
    )
    row = await cur.fetchone()
    if row is None or row[1] is None:
        return 0.0
    embedded, since = row
    minutes = max((now - since).total_seconds(), 1.0) / 60
    return float(embedded / minutes)


async def calls(conn: AsyncConnection[Any], collection: Collection) -> int:
    """Return how many model calls the collection's vectors took so far."""
    cur = await conn.execute(
        "SELECT coalesce(sum(calls), 0)::bigint FROM activity WHERE bucket = %s AND model = %s",
        [collection.bucket, collection.model],
    )
    row = await cur.fetchone()
    return int(row[0]) if row else 0
