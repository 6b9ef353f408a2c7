"""Vectors of pictures to search for, stored for a while and shared by all servers."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from shared.db.pool import Connection
from shared.sql import fetch_one, vector_text

PRUNE_LIMIT = 100  # pictures per call


@dataclass(frozen=True)
class QueryImage:
    """A picture that can be searched for by its handle until it expires."""

    handle: str
    model: str
    embedding: list[float]
    expires_at: datetime


_COLUMNS = "handle, model, embedding::real[], expires_at"


async def find(conn: Connection, handle: str, *, now: datetime) -> QueryImage | None:
    """Return the picture with this handle, of any model; None if it is unknown or expired."""
    statement = f"SELECT {_COLUMNS} FROM query_images WHERE handle = %s AND expires_at > %s"  # noqa: S608 - constants
    return await fetch_one(conn, None, QueryImage, statement, [handle, now])


async def renew(
    conn: Connection, model: str, digest: bytes, *, now: datetime, expires_at: datetime
) -> QueryImage | None:
    """Extend the picture with this content to *expires_at* and return it; None if it is unknown or expired."""
    return await fetch_one(
        conn,
        None,
        QueryImage,
        f"UPDATE query_images SET expires_at = greatest(expires_at, %s)"  # noqa: S608 - a constant
        f" WHERE model = %s AND digest = %s AND expires_at > %s RETURNING {_COLUMNS}",
        [expires_at, model, digest, now],
    )


async def save(
    conn: Connection,
    model: str,
    digest: bytes,
    vector: Sequence[float],
    *,
    handle: str,
    expires_at: datetime,
) -> QueryImage:
    """Store the picture's vector under *handle*, or the handle that its content has already; return the picture."""
    saved = await fetch_one(
        conn,
        None,
        QueryImage,
        f"INSERT INTO query_images AS stored (handle, model, digest, embedding, expires_at)"  # noqa: S608 - a constant
        f" VALUES (%s, %s, %s, %s::halfvec, %s)"
        f" ON CONFLICT (model, digest) DO UPDATE SET expires_at = greatest(stored.expires_at, excluded.expires_at)"
        f" RETURNING {_COLUMNS}",
        [handle, model, digest, vector_text(vector), expires_at],
    )
    assert saved is not None
    return saved


async def prune(conn: Connection, *, now: datetime, keep: int) -> int:
    """Delete expired pictures, and beyond *keep* those that expire first; return their number."""
    statement = """
        DELETE FROM query_images WHERE handle IN (
            SELECT handle FROM query_images
             WHERE expires_at <= greatest(%(now)s,
                       (SELECT expires_at FROM query_images ORDER BY expires_at DESC OFFSET %(keep)s LIMIT 1))
             ORDER BY expires_at LIMIT %(limit)s FOR UPDATE SKIP LOCKED)
    """
    cur = await conn.execute(statement, {"now": now, "keep": keep, "limit": PRUNE_LIMIT})
    return cur.rowcount
