"""Statistics of a collection: counts, failures by reason, speed and model calls."""

from collections.abc import Sequence
from datetime import timedelta

from shared.db.pool import Connection
from shared.models import Collection, Counts
from shared.sql import execute, fetch_each, fetch_one, fetch_value

SLOTS = 16  # rows per minute, so that concurrent writers do not wait for each other

_COUNTS = """
    SELECT images + rejected AS total, images - pending - failed AS embedded, pending, failed + rejected AS failed,
           rejected
      FROM (SELECT coalesce(sum(images), 0)::bigint AS images,
                   coalesce(sum(pending) FILTER (WHERE model = %(model)s), 0)::bigint AS pending,
                   coalesce(sum(failed) FILTER (WHERE model = %(model)s), 0)::bigint AS failed,
                   (SELECT count(*) FROM {files} WHERE reason IS NOT NULL) AS rejected
              FROM {counts}) AS summed
"""


async def counts(conn: Connection, collection: Collection) -> Counts:
    """Return the collection's counts. Triggers maintain them; only rejected files are counted here."""
    found = await fetch_one(conn, collection, Counts, _COUNTS, {"model": collection.model})
    assert found is not None
    return found


async def counts_of_each(conn: Connection, collections: Sequence[Collection]) -> dict[Collection, Counts]:
    """Return the counts of the collections, without those dropped meanwhile."""
    found = await fetch_each(conn, collections, Counts, _COUNTS)
    return {collection: each for collection, [each] in found.items()}


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
    """Return the images embedded per minute since the start of the previous minute, if any, else in five minutes.

    The start of a sync is slower: a model is loaded, and uploads take their share. It must not count for long.
    """
    statement = """
        SELECT coalesce(
            sum(embedded) FILTER (WHERE is_recent) * 60 / max(elapsed) FILTER (WHERE is_recent),
            sum(embedded) * 60 / max(elapsed))
          FROM (SELECT embedded, greatest(extract(epoch FROM now() - since), 1) AS elapsed,
                       minute >= date_trunc('minute', now()) - interval '1 minute' AS is_recent
                  FROM activity
                 WHERE bucket = %s AND model = %s AND minute > now() - interval '5 minutes') AS work
    """
    return float(await fetch_value(conn, None, statement, [collection.bucket, collection.model]) or 0)


async def is_active(conn: Connection, collection: Collection) -> bool:
    """Return whether a syncer is at work: it holds the lease of an image or the lock on a source."""
    statement = """
        SELECT EXISTS (SELECT FROM {queue}
                        WHERE model = %(model)s AND state = 'pending' AND lease IS NOT NULL AND due_at > now())
            OR EXISTS (SELECT FROM source_locks JOIN sources ON sources.id = source_id
                        WHERE bucket = %(bucket)s AND expires_at > now())
    """
    active: bool = await fetch_value(conn, collection, statement, vars(collection))
    return active


async def calls(conn: Connection, collection: Collection) -> int:
    """Return the number of model calls made for the collection so far."""
    statement = "SELECT coalesce(sum(calls), 0)::bigint FROM activity WHERE bucket = %s AND model = %s"
    number: int = await fetch_value(conn, None, statement, [collection.bucket, collection.model])
    return number
