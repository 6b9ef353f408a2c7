"""Verified pairs of models: a local model whose vectors agree with those of another model."""

from dataclasses import dataclass

from shared.db.pool import Connection
from shared.models import Collection
from shared.sql import fetch_all


@dataclass(frozen=True)
class EmbeddedSample:
    """An image with its vector."""

    key: str
    sha256: bytes
    derivatives: bool
    vector: list[float]


async def samples(conn: Connection, collection: Collection, *, limit: int) -> list[EmbeddedSample]:
    """Return up to *limit* embedded images."""
    statement = """
        WITH embedded AS MATERIALIZED (
            SELECT id, embedding::real[] AS vector FROM {embeddings} WHERE embedding IS NOT NULL ORDER BY id LIMIT %s)
        SELECT i.r2_key AS key, i.sha256, i.derivatives, embedded.vector
          FROM embedded JOIN {images} AS i USING (id) ORDER BY i.id
    """
    return await fetch_all(conn, collection, EmbeddedSample, statement, [limit])


async def is_verified(conn: Connection, *, local: str, model: str) -> bool:
    """Return whether *local*, a model with its weights, has been found to agree with *model*."""
    cur = await conn.execute("SELECT FROM shared_values WHERE name = %s", [_name(local, model)])
    return cur.rowcount > 0


async def save(conn: Connection, *, local: str, model: str, cosine: float) -> None:
    """Record for all servers that *local* agrees with *model*, with this cosine."""
    statement = "INSERT INTO shared_values (name, value) VALUES (%s, %s) ON CONFLICT DO NOTHING"
    await conn.execute(statement, [_name(local, model), f"{cosine:.6f}"])


def _name(local: str, model: str) -> str:
    return f"agreement of {local} with {model}"
