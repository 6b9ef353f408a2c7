"""Vectors of query texts, shared by all servers, so that a text costs one model call."""

from collections.abc import Sequence
from datetime import datetime

from shared.db.pool import Connection
from shared.sql import vector_text

PRUNE_LIMIT = 1000  # texts per call


async def find(conn: Connection, model: str, digest: bytes) -> tuple[list[float], datetime] | None:
    """Return the vector of the text with this digest and the recorded time of its last use; None for a new text."""
    query = "SELECT embedding::real[], used_at FROM query_vectors WHERE model = %s AND digest = %s"
    row = await (await conn.execute(query, [model, digest])).fetchone()
    return (list(row[0]), row[1]) if row else None


async def save(conn: Connection, model: str, digest: bytes, vector: Sequence[float], *, now: datetime) -> None:
    """Store the text's vector, or record its use, in the caller's transaction."""
    # A search waits for this; a vector that is lost in a crash costs another call of the model.
    await conn.execute("SET LOCAL synchronous_commit = off")
    await conn.execute(
        "INSERT INTO query_vectors (model, digest, embedding, used_at) VALUES (%s, %s, %s::halfvec, %s)"
        " ON CONFLICT (model, digest) DO UPDATE SET used_at = excluded.used_at",
        [model, digest, vector_text(vector), now],
    )


async def prune(conn: Connection, *, unused_since: datetime, keep: int) -> int:
    """Delete texts not used since *unused_since*, and all but the *keep* most recently used; return their number."""
    statement = """
        DELETE FROM query_vectors WHERE (model, digest) IN (
            SELECT model, digest FROM query_vectors
             WHERE used_at < greatest(%(unused_since)s,
                       (SELECT used_at FROM query_vectors ORDER BY used_at DESC OFFSET %(keep)s - 1 LIMIT 1))
             ORDER BY used_at LIMIT %(limit)s FOR UPDATE SKIP LOCKED)
    """
    cur = await conn.execute(statement, {"unused_since": unused_since, "keep": keep, "limit": PRUNE_LIMIT})
    return cur.rowcount
