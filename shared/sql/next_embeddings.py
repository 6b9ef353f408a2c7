"""A second set of vectors beside a collection's own, of another model: made, filled, exchanged with the first, removed.

The shadow is a table of the form of {embeddings}. It is filled like any collection, by the queue, which is keyed by
image and model: ``beside`` gives the collection as it looks with the shadow's vectors. Triggers on {images}, made with
the shadow and gone with it, keep its rows and its queue complete, also after the switch: the way back is the same
switch once more.
"""

from dataclasses import replace
from datetime import datetime
from typing import Any, LiteralString

import psycopg
from psycopg import AsyncConnection
from psycopg.rows import class_row
from psycopg.sql import SQL, Identifier, Literal

from shared.db import migrate
from shared.errors import ModelChanged, SettingsError
from shared.models import Collection, NextEmbeddings
from shared.sql import collections, for_collection, queue

# Everybody else waits behind a request for an exclusive lock, searches too: better given up and tried again.
_LOCK_TIMEOUT = "500ms"


def beside(collection: Collection, shadow: NextEmbeddings) -> Collection:
    """Return the collection as it looks with the vectors of its shadow."""
    return replace(collection, model=shadow.model, dimensions=shadow.dimensions, vectors="next_embeddings")


async def find(conn: AsyncConnection[Any], bucket: str) -> NextEmbeddings | None:
    """Return the bucket's shadow, or None."""
    async with conn.cursor(row_factory=class_row(NextEmbeddings)) as cur:
        await cur.execute("SELECT model, dimensions, state FROM next_embeddings WHERE bucket = %s", [bucket])
        return await cur.fetchone()


async def check_model(conn: AsyncConnection[Any], collection: Collection) -> None:
    """Make sure that {embeddings} holds vectors of the collection's model, and will until the transaction ends.

    Raises ModelChanged when they are another's by now: read the collection again and start over.
    """
    try:
        # The join reads nothing. It locks the table, and the statement looks at the models behind that lock.
        cur = await conn.execute(
            for_collection(
                """
                SELECT FROM vector_tables AS v LEFT JOIN {embeddings} ON false
                 WHERE v.bucket = %(bucket)s AND v.name = %(vectors)s AND v.model = %(model)s
                """,
                collection,
            ),
            {"bucket": collection.bucket, "vectors": collection.vectors, "model": collection.model},
        )
    except psycopg.errors.UndefinedTable as exc:
        raise _changed(collection) from exc
    if not cur.rowcount:
        raise _changed(collection)


def _changed(collection: Collection) -> ModelChanged:
    return ModelChanged(
        f"the vectors of {collection.bucket!r} are no longer those of {collection.model!r}, which this began with:"
        " run the command again"
    )


async def begin(
    conn: AsyncConnection[Any], collection: Collection, *, model: str, dimensions: int, now: datetime
) -> NextEmbeddings:
    """Return the collection's shadow for *model*, made if there was none; vectors of another previous model go.

    Raises SettingsError when the collection has that model already, or is being re-embedded with yet another.
    """
    await _impatiently(conn)
    await migrate.lock(conn)
    current = await collections.find(conn, collection.bucket)
    shadow = await find(conn, collection.bucket)
    if current is None or current.model == model:
        raise SettingsError(
            f"collection {collection.bucket!r} already holds vectors of {model!r}: nothing is to be done"
        )
    if shadow and shadow.model == model:
        # Its previous vectors are still there, and complete but for what came since.
        await conn.execute(
            "UPDATE next_embeddings SET state = 'filling', changed_at = %s WHERE bucket = %s AND state = 'previous'",
            [now, collection.bucket],
        )
        return replace(shadow, state="preparing" if shadow.state == "preparing" else "filling")
    if shadow and shadow.state != "previous":
        raise SettingsError(
            f"collection {collection.bucket!r} is being re-embedded with {shadow.model!r}: let that end, or give it up"
            f" with `syncer reembed --bucket {collection.bucket} --forget`"
        )
    if shadow:
        await forget(conn, collection)
    await _create(conn, collection, dimensions)
    await conn.execute(
        "INSERT INTO next_embeddings (bucket, model, dimensions, state, changed_at)"
        " VALUES (%s, %s, %s, 'preparing', %s)",
        [collection.bucket, model, dimensions, now],
    )
    return NextEmbeddings(model, dimensions, "preparing")


async def _create(conn: AsyncConnection[Any], collection: Collection, dimensions: int) -> None:
    # The index is there from the start, as in a new collection: it grows with the rows, so that there is no build to be
    # interrupted, and costs little beside what a vector takes to compute.
    await conn.execute(
        SQL(
            """
            CREATE TABLE {next_embeddings} (
                id         bigint PRIMARY KEY,
                r2_key     text COLLATE "C" NOT NULL UNIQUE,
                embedding  halfvec({dimensions}),
                created_at timestamptz NOT NULL,
                FOREIGN KEY (id, r2_key) REFERENCES {images} (id, r2_key) ON UPDATE CASCADE ON DELETE CASCADE
            );
            ALTER TABLE {next_embeddings} ALTER COLUMN embedding SET STORAGE PLAIN;
            CREATE INDEX {next_hnsw} ON {next_embeddings} USING hnsw (embedding halfvec_ip_ops)
              WITH (ef_construction = 200) WHERE embedding IS NOT NULL;
            CREATE TRIGGER mirror_inserted AFTER INSERT ON {images} FOR EACH ROW
                EXECUTE FUNCTION mirror_image({bucket_name}, {next_name}, {images_name}, {queue_name});
            CREATE TRIGGER mirror_changed AFTER UPDATE OF sha256 ON {images} FOR EACH ROW
                WHEN (OLD.sha256 IS DISTINCT FROM NEW.sha256)
                EXECUTE FUNCTION mirror_image({bucket_name}, {next_name}, {images_name}, {queue_name});
            """
        ).format(
            **migrate.template_values(collection.bucket, dimensions),
            bucket_name=Literal(collection.bucket),
            **{f"{suffix}_name": Literal(f"{collection.base}_{suffix}") for suffix in ("next", "images", "queue")},
        )
    )


async def prepare(
    conn: AsyncConnection[Any], collection: Collection, *, after: int, limit: int, now: datetime
) -> int | None:
    """Give *limit* images behind the id *after* their rows and their places in the queue; return the last one's id.

    *collection* is what ``beside`` gives. Returns None, and notes that all is prepared, when there is no image left.
    """
    cur = await conn.execute(
        for_collection(
            # Locked, images can be neither removed nor renamed before their rows refer to them.
            """
            WITH reach AS (
                SELECT max(id) AS last
                  FROM (SELECT id FROM {images} WHERE id > %(after)s ORDER BY id LIMIT %(limit)s) AS following),
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
                INSERT INTO {queue} (id, model, due_at) SELECT id, %(model)s, %(now)s FROM added
                ON CONFLICT DO NOTHING)
            SELECT last FROM reach
            """,
            collection,
        ),
        {
            "after": after,
            "limit": limit,
            "now": now,
            "bucket": collection.bucket,
            "vectors": collection.vectors,
            "model": collection.model,
        },
    )
    row = await cur.fetchone()
    assert row is not None
    if row[0] is None:
        await conn.execute(
            "UPDATE next_embeddings SET state = 'filling', changed_at = %s"
            " WHERE bucket = %s AND model = %s AND state = 'preparing'",
            [now, collection.bucket, collection.model],
        )
    return row[0]  # type: ignore[no-any-return]


async def losses(conn: AsyncConnection[Any], collection: Collection, *, model: str) -> tuple[int, int]:
    """Return how many images would lose their vector by a switch to *model* now, and how many have one."""
    cur = await conn.execute(
        for_collection(
            """
            SELECT count(*) FILTER (WHERE q.state = 'failed'), count(*)
              FROM {embeddings} AS e LEFT JOIN {queue} AS q ON q.id = e.id AND q.model = %s
             WHERE e.embedding IS NOT NULL
            """,
            collection,
        ),
        [model],
    )
    row = await cur.fetchone()
    assert row is not None
    return row[0], row[1]


async def switch(conn: AsyncConnection[Any], collection: Collection, *, model: str, back: bool, now: datetime) -> bool:
    """Exchange the collection's vectors and its shadow's, which are of *model*; return whether it has those now.

    It is not done while an image waits for its vector of *model*, unless the way leads *back*. Other transactions see
    all of it from one moment to the next. Raises ModelChanged when there is no such shadow (any more).
    """
    await _impatiently(conn)
    # Whoever adds or changes an image begins with this table.
    await conn.execute(for_collection("LOCK TABLE {images} IN SHARE ROW EXCLUSIVE MODE", collection))
    current, shadow = await collections.find(conn, collection.bucket), await find(conn, collection.bucket)
    if current and current.model == model:
        return True
    if current is None or shadow is None or shadow.model != model or (shadow.state == "previous") != back:
        raise ModelChanged(f"{model!r} is not what {collection.bucket!r} could be switched to any more")
    if not back and await queue.is_pending(conn, collection, model):
        return False
    await conn.execute(
        for_collection("LOCK TABLE {embeddings}, {next_embeddings} IN ACCESS EXCLUSIVE MODE", collection)
    )
    await _exchange_names(conn, collection)
    await conn.execute(
        "UPDATE collections SET model = %s, dimensions = %s WHERE bucket = %s",
        [shadow.model, shadow.dimensions, collection.bucket],
    )
    await conn.execute(
        "UPDATE next_embeddings SET model = %s, dimensions = %s, state = 'previous', changed_at = %s WHERE bucket = %s",
        [current.model, current.dimensions, now, collection.bucket],
    )
    return True


async def _exchange_names(conn: AsyncConnection[Any], collection: Collection) -> None:
    """Give each of the two tables and their indexes the other's name."""
    tables = [f"{collection.base}_{suffix}" for suffix in ("embeddings", "next")]
    mine, others = [await _indexes(conn, table) for table in tables]
    aside = Identifier(f"{collection.base}_swap")
    rename: LiteralString
    for rename, one, other in [
        ("ALTER TABLE {} RENAME TO {}", *tables),
        *(("ALTER INDEX {} RENAME TO {}", *pair) for pair in zip(mine, others, strict=True)),
    ]:
        names = Identifier(one), Identifier(other)
        for old, new in [(names[0], aside), (names[1], names[0]), (aside, names[1])]:
            await conn.execute(SQL(rename).format(old, new))


async def _indexes(conn: AsyncConnection[Any], table: str) -> list[str]:
    """Return the names of the table's indexes: the primary key's, the unique one's, that of the vectors."""
    cur = await conn.execute(
        """
        SELECT index.relname
          FROM pg_index AS i JOIN pg_class AS index ON index.oid = i.indexrelid
         WHERE i.indrelid = to_regclass(quote_ident(%s))
         ORDER BY i.indisprimary DESC, i.indisunique DESC, index.relname
        """,
        [table],
    )
    return [name for (name,) in await cur.fetchall()]


async def forget(conn: AsyncConnection[Any], collection: Collection) -> bool:
    """Remove the collection's shadow with its queue; return whether there was one."""
    await _impatiently(conn)
    shadow = await find(conn, collection.bucket)
    if shadow is None:
        return False
    remove = for_collection("DELETE FROM {queue} WHERE model = %s", collection)
    # Most of it before writers are held off, and then what came meanwhile.
    await conn.execute(remove, [shadow.model])
    await conn.execute(for_collection("LOCK TABLE {images} IN SHARE ROW EXCLUSIVE MODE", collection))
    await conn.execute(
        for_collection(
            """
            DROP TRIGGER mirror_inserted ON {images};
            DROP TRIGGER mirror_changed ON {images};
            DROP TABLE {next_embeddings};
            """,
            collection,
        )
    )
    await conn.execute("DELETE FROM next_embeddings WHERE bucket = %s", [collection.bucket])
    await conn.execute(remove, [shadow.model])
    return True


async def _impatiently(conn: AsyncConnection[Any]) -> None:
    """Let the transaction give up a lock that it does not get soon, to be tried again as a whole."""
    await conn.execute("SELECT set_config('lock_timeout', %s, true)", [_LOCK_TIMEOUT])
