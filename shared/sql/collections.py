"""Collections, their sources, and values shared by all servers."""

from datetime import datetime

from shared.db import migrate, table_names
from shared.db.pool import Connection
from shared.errors import SettingsError
from shared.models import Collection
from shared.sql import execute, fetch_all, fetch_one, fetch_value, vector_index

_COLUMNS = """
    bucket, regexp_replace(table_name, '_embeddings$', '') AS base, model, dimensions, title, created_at, index_kind,
    marked, placement, ocr
"""


async def list_all(conn: Connection) -> list[Collection]:
    """Return all collections, oldest first."""
    return await fetch_all(conn, None, Collection, f"SELECT {_COLUMNS} FROM collections ORDER BY created_at, bucket")  # noqa: S608 - constants


async def find(conn: Connection, bucket: str) -> Collection | None:
    """Return the collection of *bucket*, or None."""
    return await fetch_one(conn, None, Collection, f"SELECT {_COLUMNS} FROM collections WHERE bucket = %s", [bucket])  # noqa: S608 - constants


async def ensure(conn: Connection, bucket: str, *, model: str, dimensions: int, now: datetime) -> Collection:
    """Return the collection of *bucket*; create it with *model* if there is none. An existing one keeps its model."""
    found = await find(conn, bucket)
    if found:
        return found
    await migrate.lock(conn)
    table = f"{table_names.base_name(bucket)}_embeddings"
    await conn.execute(
        "INSERT INTO collections (bucket, table_name, model, dimensions, title, created_at)"
        " VALUES (%s, %s, %s, %s, %s, %s) ON CONFLICT DO NOTHING",
        [bucket, table, model, dimensions, bucket, now],
    )
    collection = await find(conn, bucket)
    if collection is None:
        raise SettingsError(f"bucket {bucket!r} needs the table name {table!r}, which another bucket uses: rename one")
    await migrate.migrate_collection(conn, bucket, dimensions)
    await vector_index.create(conn, collection)
    return collection


async def set_marked(conn: Connection, collection: Collection) -> None:
    """Record that the bucket has the marker object."""
    await conn.execute("UPDATE collections SET marked = true WHERE bucket = %s", [collection.bucket])


async def drop(conn: Connection, collection: Collection) -> None:
    """Drop the collection's tables and delete its rows in shared tables."""
    await migrate.lock(conn)
    statement = """
        DROP TABLE IF EXISTS {images}, {embeddings}, {next_embeddings}, {queue}, {files}, {counts}, {pending_objects},
            {texts}
    """
    await execute(conn, collection, statement)
    await conn.execute("DELETE FROM collections WHERE bucket = %s", [collection.bucket])


async def ensure_source(conn: Connection, collection: Collection, name: str) -> int:
    """Return the ID of the source *name*; create the source if it is new."""
    statement = "INSERT INTO sources (bucket, name) VALUES (%s, %s) ON CONFLICT DO NOTHING"
    await conn.execute(statement, [collection.bucket, name])
    source = await find_source(conn, collection, name)
    assert source is not None
    return source


async def find_source(conn: Connection, collection: Collection, name: str) -> int | None:
    """Return the ID of the source *name*, or None."""
    statement = "SELECT id FROM sources WHERE bucket = %s AND name = %s"
    source: int | None = await fetch_value(conn, None, statement, [collection.bucket, name])
    return source


async def shared_value(conn: Connection, name: str, default: str) -> str:
    """Return the value of *name*; store *default* if there is none yet."""
    statement = "INSERT INTO shared_values (name, value) VALUES (%s, %s) ON CONFLICT DO NOTHING"
    await conn.execute(statement, [name, default])
    value: str = await fetch_value(conn, None, "SELECT value FROM shared_values WHERE name = %s", [name])
    return value
