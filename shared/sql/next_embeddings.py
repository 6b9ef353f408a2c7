"""A second set of vectors of a collection, from another model: create, fill, switch to and discard it.

The vectors are in a table shaped like {embeddings}. The queue, keyed by image and model, fills it like that of any
collection: ``with_next`` returns the collection with this table in place of its own. Triggers on {images} keep its rows
and its queue complete for as long as it exists, even after the switch, so that a rollback is simply another switch.
"""

from dataclasses import replace
from typing import LiteralString

import psycopg
from psycopg.sql import SQL, Identifier, Literal

from shared.db import migrate
from shared.db.pool import Connection
from shared.errors import ModelChanged, SettingsError
from shared.models import Collection, NextEmbeddings
from shared.sql import collections, execute, fetch_all, fetch_one, for_collection, placement, queue, vector_index
from shared.sql.placement import VectorRow

# Everything else, searches included, queues behind a request for an exclusive lock: give up early and retry.
_LOCK_TIMEOUT = "500ms"


def with_next(collection: Collection, target: NextEmbeddings) -> Collection:
    """Return the collection with its next embeddings in place of the current ones."""
    return replace(collection, model=target.model, dimensions=target.dimensions, vectors="next_embeddings")


async def find(conn: Connection, bucket: str) -> NextEmbeddings | None:
    statement = "SELECT model, dimensions, state FROM next_embeddings WHERE bucket = %s"
    return await fetch_one(conn, None, NextEmbeddings, statement, [bucket])


async def check_model(conn: Connection, collection: Collection) -> None:
    """Ensure that {embeddings} holds vectors of the collection's model until the transaction ends.

    Raises ModelChanged if the collection has switched: read it again and start over.
    """
    try:
        # Selects no row of {embeddings}, but locks it, and the model is read after that lock.
        statement: LiteralString = f"""
            SELECT 1 WHERE {placement.holds_model(collection)} AND NOT EXISTS (SELECT 1 FROM {{embeddings}} WHERE false)
        """  # noqa: S608 - constants
        cur = await execute(conn, collection, statement, vars(collection))
    except psycopg.errors.UndefinedTable as exc:
        raise _model_changed(collection) from exc
    if not cur.rowcount:
        raise _model_changed(collection)


def _model_changed(collection: Collection) -> ModelChanged:
    return ModelChanged(
        f"collection {collection.bucket!r} no longer holds the vectors of {collection.model!r} that this command"
        " started with: run it again"
    )


async def start(conn: Connection, collection: Collection, *, model: str, dimensions: int) -> NextEmbeddings:
    """Return the next embeddings for *model*, created if necessary; those of another previous model are discarded.

    Raises SettingsError if the collection has that model already, or is being re-embedded with yet another one.
    """
    await _set_lock_timeout(conn)
    await migrate.lock(conn)
    current = await collections.find(conn, collection.bucket)
    existing = await find(conn, collection.bucket)
    if current is None or current.model == model:
        raise SettingsError(f"collection {collection.bucket!r} already holds vectors of {model!r}: nothing to do")
    if existing and existing.model == model:
        # Vectors of the previous model are complete except for images added since.
        statement = "UPDATE next_embeddings SET state = 'filling' WHERE bucket = %s AND state = 'previous'"
        await conn.execute(statement, [collection.bucket])
        return replace(existing, state="preparing" if existing.state == "preparing" else "filling")
    if existing and existing.state != "previous":
        raise SettingsError(
            f"collection {collection.bucket!r} is being re-embedded with {existing.model!r}: finish that, or discard it"
            f" with `syncer reembed --bucket {collection.bucket} --forget`"
        )
    if existing:
        await discard(conn, collection)
    await _create_table(conn, collection, dimensions)
    statement = "INSERT INTO next_embeddings (bucket, model, dimensions, state) VALUES (%s, %s, %s, 'preparing')"
    await conn.execute(statement, [collection.bucket, model, dimensions])
    created = NextEmbeddings(model, dimensions, "preparing")
    await vector_index.create(conn, with_next(current, created))
    return created


async def _create_table(conn: Connection, collection: Collection, dimensions: int) -> None:
    await conn.execute(placement.definition(replace(collection, dimensions=dimensions), collection.placement))
    await conn.execute(
        SQL(
            """
            CREATE TRIGGER next_embeddings_inserted AFTER INSERT ON {images} FOR EACH ROW
                EXECUTE FUNCTION add_to_next_embeddings({bucket_name}, {next_name}, {images_name}, {queue_name});
            CREATE TRIGGER next_embeddings_changed AFTER UPDATE OF sha256 ON {images} FOR EACH ROW
                WHEN (OLD.sha256 IS DISTINCT FROM NEW.sha256)
                EXECUTE FUNCTION add_to_next_embeddings({bucket_name}, {next_name}, {images_name}, {queue_name});
            """
        ).format(
            images=Identifier(f"{collection.base}_images"),
            bucket_name=Literal(collection.bucket),
            **{f"{suffix}_name": Literal(f"{collection.base}_{suffix}") for suffix in ("next", "images", "queue")},
        )
    )


async def prepare(conn: Connection, collection: Collection, *, after: int, limit: int) -> int | None:
    """Add rows and queue entries for *limit* images with ids above *after*; return the last id.

    *collection* is the result of ``with_next``. If no image is left, set the state to filling and return None.
    """
    await execute(conn, collection, "LOCK TABLE {images} IN ROW EXCLUSIVE MODE")  # like every writer, see switch
    select: LiteralString = f"""
        SELECT id, r2_key, created_at FROM {{images}} WHERE id > %(after)s AND {placement.holds_model(collection)}
         ORDER BY id LIMIT %(limit)s FOR KEY SHARE
    """  # noqa: S608 - constants
    parameters = vars(collection) | {"after": after, "limit": limit}
    if part := await fetch_all(conn, collection, VectorRow, select, parameters):
        added = await placement.add_rows(conn, collection, part, overwrite=False)
        statement = """
            INSERT INTO {queue} (id, model, due_at) SELECT id, %s, now() FROM unnest(%s::bigint[]) AS added (id)
            ON CONFLICT DO NOTHING
        """
        await execute(conn, collection, statement, [collection.model, added])
        return part[-1].id
    statement = "UPDATE next_embeddings SET state = 'filling' WHERE bucket = %s AND model = %s AND state = 'preparing'"
    await conn.execute(statement, [collection.bucket, collection.model])
    return None


async def count_losses(conn: Connection, collection: Collection, *, model: str) -> tuple[int, int]:
    """Return how many images would lose their vector if the collection switched to *model* now, and how many have one.

    An image loses it if it is quarantined with *model*.
    """
    statement = """
        SELECT count(*) FILTER (WHERE next.state = 'failed'), count(*)
          FROM {images} AS i LEFT JOIN {queue} AS next ON next.id = i.id AND next.model = %s
         WHERE NOT EXISTS (SELECT FROM {queue} AS current WHERE current.id = i.id AND current.model = %s)
    """
    cur = await execute(conn, collection, statement, [model, collection.model])
    row = await cur.fetchone()
    assert row is not None
    return row[0], row[1]


async def switch(conn: Connection, collection: Collection, *, model: str, rollback: bool) -> bool:
    """Exchange current and next embeddings atomically; return whether the collection has vectors of *model* now.

    Returns False while an image waits for its vector of *model*, unless this is a *rollback*. Raises ModelChanged if
    the next embeddings are not (or no longer) those of *model*.
    """
    await _set_lock_timeout(conn)
    # Every transaction that adds or changes an image locks this table first.
    await execute(conn, collection, "LOCK TABLE {images} IN SHARE ROW EXCLUSIVE MODE")
    current, target = await collections.find(conn, collection.bucket), await find(conn, collection.bucket)
    if current and current.model == model:
        return True
    if not current or not target or target.model != model or (target.state == "previous") != rollback:
        raise ModelChanged(f"collection {collection.bucket!r} has no vectors of {model!r} to switch to any more")
    if not rollback and await queue.is_pending(conn, with_next(collection, target)):
        return False
    await execute(conn, collection, "LOCK TABLE {embeddings}, {next_embeddings} IN ACCESS EXCLUSIVE MODE")
    await placement.swap_names(conn, collection)
    statement = "UPDATE collections SET model = %s, dimensions = %s WHERE bucket = %s"
    await conn.execute(statement, [target.model, target.dimensions, collection.bucket])
    statement = "UPDATE next_embeddings SET model = %s, dimensions = %s, state = 'previous' WHERE bucket = %s"
    await conn.execute(statement, [current.model, current.dimensions, collection.bucket])
    return True


async def discard(conn: Connection, collection: Collection) -> bool:
    """Drop the collection's next embeddings with their queue; return whether there were any."""
    await _set_lock_timeout(conn)
    target = await find(conn, collection.bucket)
    if target is None:
        return False
    clear_queue = for_collection("DELETE FROM {queue} WHERE model = %s", collection)
    # Most of the queue goes before writers are blocked, the entries added meanwhile after.
    await conn.execute(clear_queue, [target.model])
    await execute(conn, collection, "LOCK TABLE {images} IN SHARE ROW EXCLUSIVE MODE")
    statement = """
        DROP TRIGGER next_embeddings_inserted ON {images};
        DROP TRIGGER next_embeddings_changed ON {images};
        DROP TABLE {next_embeddings};
    """
    await execute(conn, collection, statement)
    await conn.execute("DELETE FROM next_embeddings WHERE bucket = %s", [collection.bucket])
    await conn.execute(clear_queue, [target.model])
    return True


async def _set_lock_timeout(conn: Connection) -> None:
    """Fail if a lock is not granted soon; Database.run retries the whole transaction."""
    await conn.execute("SELECT set_config('lock_timeout', %s, true)", [_LOCK_TIMEOUT])
