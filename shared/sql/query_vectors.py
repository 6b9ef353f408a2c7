"""Vectors of query texts, kept for all servers together, so that a text costs one model call."""

from collections.abc import Sequence
from datetime import datetime
from typing import Any

from psycopg import AsyncConnection

from shared.sql import vector_text

PRUNED_AT_ONCE = 1000


async def find(conn: AsyncConnection[Any], model: str, digest: bytes) -> tuple[list[float], datetime] | None:
    """Return the vector kept for the text with this digest, and when it was last known to be used; or None."""
    query = "SELECT embedding::real[], used_at FROM query_vectors WHERE model = %s AND digest = %s"
    row = await (await conn.execute(query, [model, digest])).fetchone()
    return (list(row[0]), row[1]) if row else None


async def save(
    conn: AsyncConnection[Any], model: str, digest: bytes, vector: Sequence[float], *, now: datetime
) -> None:
    """Keep the text's vector, used now."""
    await conn.execute(
        "INSERT INTO query_vectors (model, digest, embedding, used_at) VALUES (%s, %s, %s::halfvec, %s)"
        " ON CONFLICT (model, digest) DO UPDATE SET used_at = excluded.used_at",
        [model, digest, vector_text(vector), now],
    )


async def prune(conn: AsyncConnection[Any], *, unused_since: datetime, keep: int) -> int:
    """Forget texts that nobody asked for since then, and beyond *keep* of them those unused for longest, some at once;
    return how many.
    """
    cur = await conn.execute(
        """
        DELETE FROM query_vectors WHERE (model, digest) IN (
            SELECT model, digest FROM query_vectors
             WHERE used_at < greatest(%(unused_since)s,
                       (SELECT used_at FROM query_vectors ORDER BY used_at DESC OFFSET %(keep)s - 1 LIMIT 1))
             ORDER BY used_at LIMIT %(limit)s FOR UPDATE SKIP LOCKED)
        """,
        {"unused_since": unused_since, "keep": keep, "limit": PRUNED_AT_ONCE},
    )
    return cur.rowcount
