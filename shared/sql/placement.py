"""Placement of a collection's vectors: beside everything else, or on the workers of a Citus cluster.

- ``local``: a table like any other.
- ``worker``: the whole table on one worker.
- ``sharded``: distributed over all workers by id.

Images, queue, files and counters stay on the coordinator, so their triggers and locks work as ever. Citus joins them to
a distributed table in few statements, so statements on placed vectors name other tables only in subqueries that do not
depend on a row. A distributed table cannot refer to a local one: triggers stand in for its foreign keys.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import LiteralString

from psycopg.sql import SQL, Identifier

from shared.db import table_names
from shared.db.pool import Connection
from shared.errors import SettingsError
from shared.models import Collection, Placement
from shared.sql import execute, fetch_value, for_collection, vector_index

_LOCAL: LiteralString = """
    CREATE TABLE {next_embeddings} (
        id         bigint PRIMARY KEY REFERENCES {images} ON DELETE CASCADE,
        created_at timestamptz NOT NULL,
        embedding  halfvec({dimensions}),
        r2_key     text COLLATE "C" NOT NULL UNIQUE REFERENCES {images} (r2_key) ON UPDATE CASCADE ON DELETE CASCADE
    );
    ALTER TABLE {next_embeddings} ALTER COLUMN embedding SET STORAGE PLAIN;
"""
# A unique key of a distributed table must contain the column that it is distributed by. One connection per worker sees
# what the transaction did before.
_PLACED: LiteralString = """
    SET LOCAL citus.multi_shard_modify_mode = 'sequential';
    CREATE TABLE {next_embeddings} (
        id         bigint PRIMARY KEY,
        created_at timestamptz NOT NULL,
        embedding  halfvec({dimensions}),
        r2_key     text COLLATE "C" NOT NULL,
        UNIQUE (r2_key, id)
    );
    ALTER TABLE {next_embeddings} ALTER COLUMN embedding SET STORAGE PLAIN;
    SELECT create_distributed_table('{next_embeddings}', DISTRIBUTED_BY, colocate_with := 'none');
"""
_DEFINITIONS: dict[Placement, LiteralString] = {
    "local": _LOCAL,
    "worker": _PLACED.replace("DISTRIBUTED_BY", "NULL"),
    "sharded": _PLACED.replace("DISTRIBUTED_BY", "'id'"),
}
_ADD_TRIGGERS = """
    CREATE TRIGGER placed_deleted AFTER DELETE ON {images} REFERENCING OLD TABLE AS old_rows
        FOR EACH STATEMENT EXECUTE FUNCTION follow_images('{embeddings}', '{next_embeddings}');
    CREATE TRIGGER placed_renamed AFTER UPDATE OF r2_key ON {images} FOR EACH ROW
        WHEN (OLD.r2_key <> NEW.r2_key) EXECUTE FUNCTION follow_images('{embeddings}', '{next_embeddings}');
"""
_DROP_TRIGGERS = """
    DROP TRIGGER IF EXISTS placed_deleted ON {images};
    DROP TRIGGER IF EXISTS placed_renamed ON {images};
"""

# Citus passes the settings of a transaction on to the workers.
PROPAGATE_SETTINGS = "SET LOCAL citus.propagate_set_commands = 'local'"


@dataclass(frozen=True)
class VectorRow:
    """A new row of a table of vectors; ``embedding`` is in pgvector's text format."""

    id: int
    r2_key: str
    created_at: datetime
    embedding: str | None = None


def definition(collection: Collection, placement: Placement) -> bytes:
    """Return the statements that create {next_embeddings} with the collection's dimensions."""
    return for_collection(_DEFINITIONS[placement], collection)


def holds_model(collection: Collection) -> LiteralString:
    """Return the condition that {embeddings} holds vectors of the collection's model.

    Its parameters are the fields of the collection.
    """
    models: LiteralString = "collections" if collection.vectors == "embeddings" else "next_embeddings"
    # Not "SELECT FROM", since an intermediate result of Citus needs a column.
    return f"EXISTS (SELECT 1 FROM {models} AS v WHERE v.bucket = %(bucket)s AND v.model = %(model)s)"  # noqa: S608 - constants


async def add_rows(
    conn: Connection, collection: Collection, rows: Sequence[VectorRow], *, overwrite: bool
) -> list[int]:
    """Add rows to {embeddings} and return the ids of those written; existing ones get the new vector or are skipped."""
    action: LiteralString = "DO UPDATE SET embedding = excluded.embedding" if overwrite else "DO NOTHING"
    statement: LiteralString = f"""
        INSERT INTO {{embeddings}} (id, r2_key, created_at, embedding)
        SELECT id, r2_key, created_at, embedding::halfvec
          FROM unnest(%s::bigint[], %s::text[], %s::timestamptz[], %s::text[])
            AS given (id, r2_key, created_at, embedding)
        ON CONFLICT (id) {action} RETURNING id
    """  # noqa: S608 - constants
    columns = zip(*((row.id, row.r2_key, row.created_at, row.embedding) for row in rows), strict=True)
    cur = await execute(conn, collection, statement, [list(column) for column in columns])
    return [image_id for (image_id,) in await cur.fetchall()]


async def move(conn: Connection, collection: Collection, placement: Placement) -> None:
    """Move the collection's vectors and build their index there; writers wait, searches continue.

    Raises SettingsError if the database has no Citus, or while there is a second set of vectors.
    """
    if placement != "local":
        await _require_citus(conn, placement)
    await execute(conn, collection, "LOCK TABLE {images} IN SHARE ROW EXCLUSIVE MODE")
    if await fetch_value(conn, None, "SELECT model FROM next_embeddings WHERE bucket = %s", [collection.bucket]):
        raise SettingsError(
            f"collection {collection.bucket!r} has a second set of vectors: finish `syncer reembed`, or discard the set"
            f" with `syncer reembed --bucket {collection.bucket} --forget`"
        )
    await execute(conn, collection, "LOCK TABLE {embeddings} IN SHARE ROW EXCLUSIVE MODE")
    await conn.execute(definition(collection, placement))
    statement = """
        INSERT INTO {next_embeddings} (id, created_at, embedding, r2_key)
        SELECT id, created_at, embedding, r2_key FROM {embeddings}
    """
    await execute(conn, collection, statement)
    await vector_index.create(conn, replace(collection, vectors="next_embeddings"))
    await swap_names(conn, collection)
    await execute(conn, collection, "DROP TABLE {next_embeddings}")
    await execute(conn, collection, _DROP_TRIGGERS)
    if placement != "local":
        await execute(conn, collection, _ADD_TRIGGERS)
    await conn.execute("UPDATE collections SET placement = %s WHERE bucket = %s", [placement, collection.bucket])


async def _require_citus(conn: Connection, placement: Placement) -> None:
    if await fetch_value(
        conn, None, "SELECT NOT EXISTS (SELECT FROM pg_proc WHERE proname = 'create_distributed_table')"
    ):
        raise SettingsError(
            f"placement {placement}: the database has no Citus; create the extension on every node and add the workers"
        )


async def swap_names(conn: Connection, collection: Collection) -> None:
    """Swap the names of the two tables of vectors and of their indexes."""
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
