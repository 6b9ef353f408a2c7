"""Statistics of a collection: counts, failures by reason, speed and model calls."""

from datetime import timedelta

from shared.db.pool import Connection
from shared.models import Collection, Counts
from shared.sql import execute, fetch_one, fetch_value

SLOTS = 16  # rows per minute, so that concurrent writers do not wait for each other


async def counts(conn: Connection, collection: Collection) -> Counts:
    """Return the collection's counts. Triggers maintain them; only rejected files are counted here."""
    statement = """
        SELECT images + rejected AS total, images - pending - failed AS embedded, pending, failed + rejected AS failed
          FROM (SELECT coalesce(sum(images), 0)::bigint AS images,
                       coalesce(sum(pending) FILTER (WHERE model = %(model)s), 0)::bigint AS pending,
                       coalesce(sum(failed) FILTER (WHERE model = %(model)s), 0)::bigint AS failed,
                       (SELECT count(*) FROM {files} WHERE reason IS NOT NULL) AS rejected
                  FROM {counts}) AS summed
    """
    found = await fetch_one(conn, collection, Counts, statement, {"model": collection.model})
    assert found is not None
    return found


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
    conn: Connection, collection: Collection, *, elapsed: timedelta, slot: int, embedded: int, calls: int
) -> None:
    """Add work that has taken *elapsed* to the activity of the current minute."""
    statement = """
        INSERT INTO activity AS a (bucket, model, minute, slot, since, embedded, calls)
        VALUES (%s, %s, date_trunc('minute', now()), %s, now() - %s, %s, %s)
        ON CONFLICT (bucket, model, minute, slot)
        DO UPDATE SET embedded = a.embedded + excluded.embedded, calls = a.calls + excluded.calls
    """
    await conn.execute(statement, [collection.bucket, collection.model, slot % SLOTS, elapsed, embedded, calls])


async def rate_per_minute(conn: Connection, collection: Collection) -> float:
    """Return the images embedded per minute, over those of the last five minutes in which work was done."""
    statement = """
        SELECT sum(embedded) * 60 / greatest(extract(epoch FROM now() - min(since)), 1) FROM activity
         WHERE bucket = %s AND model = %s AND minute > now() - interval '5 minutes'
    """
    return float(await fetch_value(conn, None, statement, [collection.bucket, collection.model]) or 0)


async def calls(conn: Connection, collection: Collection) -> int:
    """Return the number of model calls made for the collection so far."""
    statement = "SELECT coalesce(sum(calls), 0)::bigint FROM activity WHERE bucket = %s AND model = %s"
    number: int = await fetch_value(conn, None, statement, [collection.bucket, collection.model])
    return number
