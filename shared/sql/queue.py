"""The work queue: pending images, their leases, and quarantined images, by model.

A row is *pending* or *failed* (quarantined); an image without a row has its vector, or was read (shared/sql/texts.py).
A claim leases pending rows by moving their due time to the end of the lease, so an expired lease is due work again.
Every write names its lease, and a worker that lost it changes nothing.
"""

from collections.abc import Sequence
from datetime import timedelta
from typing import LiteralString
from uuid import UUID

from shared.db.pool import Connection
from shared.errors import ImageRefused
from shared.models import Collection, Failure, Job
from shared.sql import execute, fetch_all, fetch_one, fetch_value, placement, vector_text


async def claim(conn: Connection, collection: Collection, *, lease: UUID, limit: int, duration: timedelta) -> list[Job]:
    """Lease up to *limit* due images for *duration*, longest due first; no image has two leases at a time.

    Of images with equal content only the first is leased; its result is stored for all of them.
    """
    statement = """
        WITH due AS (
            SELECT id, model
              FROM {queue} AS candidate
             WHERE model = %(model)s AND state = 'pending' AND due_at <= now()
               -- After a restart of the database, workers get the time to reconnect and use their leases.
               AND (lease IS NULL OR pg_postmaster_start_time() < now() - %(duration)s)
               AND NOT EXISTS (
                   SELECT FROM {images} AS mine
                     JOIN {images} AS twin ON twin.sha256 = mine.sha256 AND twin.id < mine.id
                     JOIN {queue} AS queued ON queued.id = twin.id AND queued.model = candidate.model
                    WHERE mine.id = candidate.id AND queued.state = 'pending')
             ORDER BY due_at
             LIMIT %(limit)s
               FOR UPDATE SKIP LOCKED)
        UPDATE {queue} AS q
           SET lease = %(lease)s, due_at = now() + %(duration)s
          FROM due, {images} AS i
         WHERE q.id = due.id AND q.model = due.model AND i.id = q.id
        RETURNING q.id, i.r2_key AS key, i.sha256, i.derivatives, q.attempts, q.lease
    """
    parameters = {"model": collection.model, "limit": limit, "lease": lease, "duration": duration}
    return await fetch_all(conn, collection, Job, statement, parameters)


async def claim_image(
    conn: Connection, collection: Collection, image_id: int, *, lease: UUID, duration: timedelta
) -> Job | None:
    """Lease one image with the collection's model; return None if it is not pending, not due or already leased."""
    statement = """
        UPDATE {queue} AS q
           SET lease = %(lease)s, due_at = now() + %(duration)s
          FROM {images} AS i
         WHERE q.id = %(id)s AND q.model = %(model)s AND q.state = 'pending'
           AND q.lease IS NULL AND q.due_at <= now() AND i.id = q.id
        RETURNING q.id, i.r2_key AS key, i.sha256, i.derivatives, q.attempts, q.lease
    """
    parameters = {"id": image_id, "model": collection.model, "lease": lease, "duration": duration}
    return await fetch_one(conn, collection, Job, statement, parameters)


async def renew(conn: Connection, collection: Collection, jobs: Sequence[Job], *, duration: timedelta) -> None:
    """Extend the leases of *jobs*; leases lost meanwhile stay lost."""
    statement = """
        UPDATE {queue} SET due_at = now() + %(duration)s
         WHERE id = ANY(%(ids)s) AND model = %(model)s AND state = 'pending' AND lease = ANY(%(leases)s)
    """
    parameters = {
        "duration": duration,
        "model": collection.model,
        "ids": [job.id for job in jobs],
        "leases": list({job.lease for job in jobs}),
    }
    await execute(conn, collection, statement, parameters)


async def leases(conn: Connection, collection: Collection) -> list[UUID]:
    """Return all active leases."""
    statement = """
        SELECT DISTINCT lease FROM {queue}
         WHERE model = %(model)s AND state = 'pending' AND due_at > now() AND lease IS NOT NULL
    """
    cur = await execute(conn, collection, statement, {"model": collection.model})
    return [lease for (lease,) in await cur.fetchall()]


async def release(conn: Connection, collection: Collection, leases: Sequence[UUID]) -> None:
    """Release all images of *leases*; they are due at once, and no attempt is counted."""
    statement = """
        UPDATE {queue} SET due_at = now(), lease = NULL
         WHERE model = %(model)s AND state = 'pending' AND lease = ANY(%(leases)s)
    """
    await execute(conn, collection, statement, {"model": collection.model, "leases": list(leases)})


async def complete(conn: Connection, collection: Collection, job: Job, vector: list[float]) -> int:
    """Store *vector* for the job's image and all pending images of equal content; return their number.

    Returns 0 and writes nothing if the lease was lost (the image was changed, removed or leased to another worker), or
    if the table holds vectors of another model by now.
    """
    finish: LiteralString = f"""
        WITH given AS MATERIALIZED (SELECT %(vector)s::halfvec AS embedding),
        {finished(placement.holds_model(collection))}
    """
    parameters = vars(collection) | vars(job) | {"vector": vector_text(vector)}
    if collection.placement == "local":
        store: LiteralString = (
            "UPDATE {embeddings} AS e SET embedding = given.embedding FROM done, given WHERE e.id = done.id"
        )
        return (await execute(conn, collection, finish + store, parameters)).rowcount
    await execute(conn, collection, "LOCK TABLE {images} IN ROW EXCLUSIVE MODE")  # the model stays the same
    done = await execute(conn, collection, finish + "SELECT id FROM done", parameters)  # noqa: S608 - constants
    parameters["ids"] = [image_id for (image_id,) in await done.fetchall()]
    store = "UPDATE {embeddings} SET embedding = %(vector)s::halfvec WHERE id = ANY(%(ids)s)"
    return (await execute(conn, collection, store, parameters)).rowcount


def finished(condition: LiteralString = "true") -> LiteralString:
    """Return the table expression ``done``: the pending images of the job's content, removed from the queue.

    It is empty if the lease was lost or *condition* does not hold.
    """
    return f"""
        leased AS (
            SELECT id FROM {{queue}}
             WHERE id = %(id)s AND model = %(model)s AND lease = %(lease)s AND state = 'pending' AND {condition}
               FOR UPDATE),
        done AS (
            DELETE FROM {{queue}} AS q
             USING {{images}} AS i
             WHERE EXISTS (SELECT FROM leased)
               AND q.id = i.id AND i.sha256 = %(sha256)s AND q.model = %(model)s AND q.state = 'pending'
            RETURNING q.id)
    """  # noqa: S608 - constants


async def refuse(
    conn: Connection,
    collection: Collection,
    job: Job,
    refusal: ImageRefused,
    *,
    retry_in: timedelta | None,
) -> int:
    """Record why the job's image got no vector, for it and all pending images of equal content; return their number.

    They are due again after *retry_in*; with None they are quarantined until ``retry``.
    """
    statement = """
        UPDATE {queue} AS q
           SET state = CASE WHEN %(retry_in)s::interval IS NULL THEN 'failed' ELSE 'pending' END,
               due_at = now() + coalesce(%(retry_in)s::interval, interval '0'),
               lease = NULL, attempts = q.attempts + 1, reason = %(reason)s, detail = %(detail)s
          FROM {images} AS i
         WHERE q.id = i.id AND i.sha256 = %(sha256)s AND q.model = %(model)s AND q.state = 'pending'
           AND EXISTS (SELECT FROM {queue} AS leased
                        WHERE leased.id = %(id)s AND leased.model = %(model)s AND leased.lease = %(lease)s)
    """
    outcome = {"retry_in": retry_in, "reason": refusal.reason, "detail": refusal.detail[:1000]}
    cur = await execute(conn, collection, statement, vars(collection) | vars(job) | outcome)
    return cur.rowcount


async def is_pending(conn: Connection, collection: Collection) -> bool:
    """Return whether any image is pending, leased ones included."""
    statement = "SELECT EXISTS (SELECT FROM {queue} WHERE model = %s AND state = 'pending')"
    pending: bool = await fetch_value(conn, collection, statement, [collection.model])
    return pending


async def failures(conn: Connection, collection: Collection, *, limit: int | None = None) -> list[Failure]:
    """Return quarantined images and rejected files, by key; at most *limit* of them."""
    statement = """
        SELECT i.r2_key AS key, i.id AS image_id, q.reason, q.detail, q.attempts, q.due_at AS failed_at
          FROM {queue} AS q JOIN {images} AS i USING (id)
         WHERE q.model = %(model)s AND q.state = 'failed'
        UNION ALL
        SELECT path, NULL, reason, detail, attempts, seen_at FROM {files} WHERE reason IS NOT NULL
         ORDER BY key
         LIMIT %(limit)s
    """
    return await fetch_all(conn, collection, Failure, statement, {"model": collection.model, "limit": limit})


async def retry(conn: Connection, collection: Collection, *, key: str | None) -> int:
    """Put quarantined images back into the queue, all or only *key*; return their number.

    Rejected files count as well; the next sync reads them again.
    """
    parameters = {"model": collection.model, "key": key}
    statement = """
        UPDATE {queue} AS q
           SET state = 'pending', due_at = now(), attempts = 0, reason = NULL, detail = NULL, lease = NULL
          FROM {images} AS i
         WHERE q.id = i.id AND q.model = %(model)s AND q.state = 'failed'
           AND (%(key)s::text IS NULL OR i.r2_key = %(key)s)
    """
    requeued = await execute(conn, collection, statement, parameters)
    statement = """
        UPDATE {files} SET reason = NULL, detail = NULL, ctime_ns = 0
         WHERE reason IS NOT NULL AND (%(key)s::text IS NULL OR path = %(key)s)
    """
    files = await execute(conn, collection, statement, parameters)
    return requeued.rowcount + files.rowcount
