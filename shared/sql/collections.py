"""Collections, their sources, and values shared by all servers."""

from datetime import datetime
from typing import Any

from psycopg import AsyncConnection
from psycopg.rows import class_row
from psycopg.sql import SQL, Identifier

from shared.db import migrate, table_names
from shared.errors import SettingsError
from shared.models import Collection

_COLUMNS = "bucket, regexp_replace(table_name, '_embeddings$', '') AS base, model, dimensions, title, created_at"


async def list_all(conn: AsyncConnection[Any]) -> list[Collection]:
    """Return all collections, oldest first."""
    async with conn.cursor(row_factory=class_row(Collection)) as cur:
        await cur.execute(f"SELECT {_COLUMNS} FROM collections ORDER BY created_at, bucket")  # noqa: S608 - a constant
        return await cur.fetchall()


async def find(conn: AsyncConnection[Any], bucket: str) -> Collection | None:
    """Return the collection of *bucket*, or None."""
    async with conn.cursor(row_factory=class_row(Collection)) as cur:
        await cur.execute(f"SELECT {_COLUMNS} FROM collections WHERE bucket = %s", [bucket])  # noqa: S608 - a constant
        return await cur.fetchone()


async def ensure(conn: AsyncConnection[Any], bucket: str, *, model: str, dimensions: int, now: datetime) -> Collection:
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
    return collection


async def drop(conn: AsyncConnection[Any], collection: Collection) -> None:
    """Drop the collection's tables and delete its rows in shared tables."""
    await migrate.lock(conn)
    for suffix in ("counts", "pending", "files", "queue", "next", "embeddings", "images"):
        await conn.execute(SQL("DROP TABLE IF EXISTS {}").format(Identifier(f"{collection.base}_{suffix}")))
    await conn.execute("DELETE FROM collections WHERE bucket = %s", [collection.bucket])


async def ensure_source(conn: AsyncConnection[Any], collection: Collection, name: str) -> int:
    """Return the ID of the source *name*; create the source if it is new."""
    await conn.execute(
        "INSERT INTO sources (bucket, name) VALUES (%s, %s) ON CONFLICT DO NOTHING", [collection.bucket, name]
    )
    source = await find_source(conn, collection, name)
    assert source is not None
    return source


async def find_source(conn: AsyncConnection[Any], collection: Collection, name: str) -> int | None:
    """Return the ID of the source *name*, or None."""
    query = "SELECT id FROM sources WHERE bucket = %s AND name = %s"
    row = await (await conn.execute(query, [collection.bucket, name])).fetchone()
    return row[0] if row else None


async def shared_value(conn: AsyncConnection[Any], name: str, default: str) -> str:
    """Return the value of *name*; store *default* if there is none yet."""
    await conn.execute(
        "INSERT INTO shared_values (name, value) VALUES (%s, %s) ON CONFLICT DO NOTHING", [name, default]
    )
    row = await (await conn.execute("SELECT value FROM shared_values WHERE name = %s", [name])).fetchone()
    assert row is not None
    return str(row[0])
