"""Statistics of a collection: counts, failures by reason, speed and model calls."""

from datetime import datetime, timedelta

from shared.db.pool import Connection
from shared.models import Collection, Counts
from shared.sql import execute, fetch_value

SLOTS = 16  # rows per minute, so that concurrent writers do not wait for each other


async def counts(conn: Connection, collection: Collection) -> Counts:
    """Return the collection's counts. Triggers maintain them; only rejected files are counted here."""
    statement = """
        SELECT (SELECT coalesce(sum(images), 0)::bigint FROM {counts}),
               (SELECT coalesce(sum(pending), 0)::bigint FROM {counts} WHERE model = %(model)s),
               (SELECT coalesce(sum(failed), 0)::bigint FROM {counts} WHERE model = %(model)s),
               (SELECT count(*) FROM {files} WHERE reason IS NOT NULL)
    """
    cur = await execute(conn, collection, statement, {"model": collection.model})
    row = await cur.fetchone()
    assert row is not None
    images, pending, failed, rejected = row
    return Counts(
        total=images + rejected, embedded=images - pending - failed, pending=pending, failed=failed + rejected
    )


async def reasons(conn: Connection, collection: Collection) -> dict[str, int]:
    """Return the numbers of quarantined images and rejected files by reason."""
    statement = """
        SELECT reason, sum(n)::bigint
          FROM (SELECT reason, count(*) AS n FROM {queue}
                 WHERE model = %(model)s AND state = 'failed' GROUP BY reason
                UNION ALL
                SELECT reason, count(*) FROM {files} WHERE reason IS NOT NULL GROUP BY reason) AS failures
         GROUP BY reason ORDER BY reason
    """
    cur = await execute(conn, collection, statement, {"model": collection.model})
    return dict(await cur.fetchall())


async def record(
    conn: Connection,
    collection: Collection,
    *,
    began: datetime,
    now: datetime,
    slot: int,
    embedded: int,
    calls: int,
) -> None:
    """Add work that started at *began* to the activity of the current minute."""
    statement = """
        INSERT INTO activity AS a (bucket, model, minute, slot, since, embedded, calls)
        VALUES (%s, %s, %s, %s, %s, %s, %s)
        ON CONFLICT (bucket, model, minute, slot)
        DO UPDATE SET embedded = a.embedded + excluded.embedded, calls = a.calls + excluded.calls
    """
    minute = now.replace(second=0, microsecond=0)
    await conn.execute(statement, [collection.bucket, collection.model, minute, slot % SLOTS, began, embedded, calls])


async def rate_per_minute(conn: Connection, collection: Collection, *, now: datetime) -> float:
    """Return the images embedded per minute, over those of the last five minutes in which work was done."""
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


async def calls(conn: Connection, collection: Collection) -> int:
    """Return the number of model calls made for the collection so far."""
    statement = "SELECT coalesce(sum(calls), 0)::bigint FROM activity WHERE bucket = %s AND model = %s"
    number: int = await fetch_value(conn, None, statement, [collection.bucket, collection.model])
    return number
