"""A second set of vectors of a collection, from another model: create, fill, switch to and discard it.

The vectors are in a table shaped like {embeddings}. The queue, keyed by image and model, fills it like that of any
collection: ``with_next`` returns the collection with this table in place of its own. Triggers on {images} keep its rows
and its queue complete for as long as it exists, even after the switch, so that a rollback is simply another switch.
"""

from dataclasses import replace
from typing import LiteralString

import psycopg
from psycopg.sql import SQL, Identifier, Literal

from shared.db import migrate, table_names
from shared.db.pool import Connection
from shared.errors import ModelChanged, SettingsError
from shared.models import Collection, NextEmbeddings
from shared.sql import collections, execute, fetch_one, fetch_value, for_collection, queue, vector_index

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
        # The join reads no row, but it locks the table, and the models are read after that lock.
        statement = """
            SELECT FROM vector_tables AS v LEFT JOIN {embeddings} ON false
             WHERE v.bucket = %(bucket)s AND v.name = %(vectors)s AND v.model = %(model)s
        """
        parameters = vars(collection)
        cur = await execute(conn, collection, statement, parameters)
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
    await conn.execute(
        SQL(
            """
            CREATE TABLE {next_embeddings} (
                id         bigint PRIMARY KEY REFERENCES {images} ON DELETE CASCADE,
                created_at timestamptz NOT NULL,
                embedding  halfvec({dimensions}),
                r2_key     text COLLATE "C" NOT NULL UNIQUE
                           REFERENCES {images} (r2_key) ON UPDATE CASCADE ON DELETE CASCADE
            );
            ALTER TABLE {next_embeddings} ALTER COLUMN embedding SET STORAGE PLAIN;
            CREATE TRIGGER next_embeddings_inserted AFTER INSERT ON {images} FOR EACH ROW
                EXECUTE FUNCTION add_to_next_embeddings({bucket_name}, {next_name}, {images_name}, {queue_name});
            CREATE TRIGGER next_embeddings_changed AFTER UPDATE OF sha256 ON {images} FOR EACH ROW
                WHEN (OLD.sha256 IS DISTINCT FROM NEW.sha256)
                EXECUTE FUNCTION add_to_next_embeddings({bucket_name}, {next_name}, {images_name}, {queue_name});
            """
        ).format(
            **migrate.template_values(collection.bucket, dimensions),
            bucket_name=Literal(collection.bucket),
            **{f"{suffix}_name": Literal(f"{collection.base}_{suffix}") for suffix in ("next", "images", "queue")},
        )
    )


async def prepare(conn: Connection, collection: Collection, *, after: int, limit: int) -> int | None:
    """Add rows and queue entries for *limit* images with ids above *after*; return the last id.

    *collection* is the result of ``with_next``. If no image is left, set the state to filling and return None.
    """
    statement = """
        WITH reach AS (
            SELECT max(id) AS last
              FROM (SELECT id FROM {images} WHERE id > %(after)s ORDER BY id LIMIT %(limit)s) AS part_ids),
        part AS MATERIALIZED (
            SELECT i.id, i.r2_key, i.created_at FROM {images} AS i, reach
             WHERE i.id > %(after)s AND i.id <= reach.last
               AND EXISTS (SELECT FROM vector_tables AS v
                            WHERE v.bucket = %(bucket)s AND v.name = %(vectors)s AND v.model = %(model)s)
               FOR KEY SHARE OF i),
        added AS (
            INSERT INTO {embeddings} (id, r2_key, created_at) SELECT id, r2_key, created_at FROM part
            ON CONFLICT DO NOTHING RETURNING id),
        queued AS (
            INSERT INTO {queue} (id, model, due_at) SELECT id, %(model)s, now() FROM added
            ON CONFLICT DO NOTHING)
        SELECT last FROM reach
    """
    parameters = vars(collection) | {"after": after, "limit": limit}
    last: int | None = await fetch_value(conn, collection, statement, parameters)
    if last is None:
        statement = """
            UPDATE next_embeddings SET state = 'filling' WHERE bucket = %s AND model = %s AND state = 'preparing'
        """
        await conn.execute(statement, [collection.bucket, collection.model])
    return last


async def count_losses(conn: Connection, collection: Collection, *, model: str) -> tuple[int, int]:
    """Return how many images would lose their vector if the collection switched to *model* now, and how many have one.

    An image loses it if it is quarantined with *model*.
    """
    statement = """
        SELECT count(*) FILTER (WHERE q.state = 'failed'), count(*)
          FROM {embeddings} AS e LEFT JOIN {queue} AS q ON q.id = e.id AND q.model = %s
         WHERE e.embedding IS NOT NULL
    """
    cur = await execute(conn, collection, statement, [model])
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
    await _swap_names(conn, collection)
    statement = "UPDATE collections SET model = %s, dimensions = %s WHERE bucket = %s"
    await conn.execute(statement, [target.model, target.dimensions, collection.bucket])
    statement = "UPDATE next_embeddings SET model = %s, dimensions = %s, state = 'previous' WHERE bucket = %s"
    await conn.execute(statement, [current.model, current.dimensions, collection.bucket])
    return True


async def _swap_names(conn: Connection, collection: Collection) -> None:
    """Swap the names of the two tables and of their indexes."""
    tables = [f"{collection.base}_{suffix}" for suffix in ("embeddings", "next")]
    keys = zip(*[await _key_indexes(conn, table) for table in tables], strict=True)
    vectors = [
        [table_names.vector_index(collection.base, table, kind) for table in ("embeddings", "next_embeddings")]
        for kind in table_names.VECTOR_INDEXES
    ]
    temporary = Identifier(f"{collection.base}_swap")
    rename: LiteralString
    for rename, one, other in [
        ("ALTER TABLE {} RENAME TO {}", *tables),
        *(("ALTER INDEX IF EXISTS {} RENAME TO {}", *pair) for pair in (*keys, *vectors)),
    ]:
        first, second = Identifier(one), Identifier(other)
        for old, new in [(first, temporary), (second, first), (temporary, second)]:
            await conn.execute(SQL(rename).format(old, new))


async def _key_indexes(conn: Connection, table: str) -> list[str]:
    """Return the names of the table's indexes of primary and unique key."""
    statement = """
        SELECT index.relname
          FROM pg_index AS i JOIN pg_class AS index ON index.oid = i.indexrelid
         WHERE i.indrelid = to_regclass(quote_ident(%s)) AND i.indisunique
         ORDER BY i.indisprimary DESC
    """
    cur = await conn.execute(statement, [table])
    return [name for (name,) in await cur.fetchall()]


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
