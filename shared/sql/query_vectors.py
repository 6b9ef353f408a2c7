"""Vectors of query texts, kept for all servers together, so that a text costs one model call."""

from collections.abc import Sequence
from datetime import datetime
from typing import Any

from psycopg import AsyncConnection

from shared.sql import vector_text


async def find(conn: AsyncConnection[Any], model: str, digest: bytes) -> list[float] | None:
    """Return the vector kept for the text with this digest, or None."""
    query = "SELECT embedding::real[] FROM query_vectors WHERE model = %s AND digest = %s"
    row = await (await conn.execute(query, [model, digest])).fetchone()
    return list(row[0]) if row else None


async def save(
    conn: AsyncConnection[Any], model: str, digest: bytes, vector: Sequence[float], *, now: datetime
) -> None:
    """Keep the text's vector."""
    await conn.execute(
        "INSERT INTO query_vectors (model, digest, embedding, used_at) VALUES (%s, %s, %s::halfvec, %s)"
        " ON CONFLICT (model, digest) DO UPDATE SET used_at = excluded.used_at",
        [model, digest, vector_text(vector), now],
    )
