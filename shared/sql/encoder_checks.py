"""Which local model was found to give the vectors of which other one."""

from dataclasses import dataclass
from typing import Any

from psycopg import AsyncConnection
from psycopg.rows import class_row

from shared.models import Collection
from shared.sql import for_collection


@dataclass(frozen=True)
class Sample:
    """An image of a collection, and its vector."""

    key: str
    sha256: bytes
    derivatives: bool
    vector: list[float]


async def samples(conn: AsyncConnection[Any], collection: Collection, *, limit: int) -> list[Sample]:
    """Return up to *limit* images that have their vector."""
    async with conn.cursor(row_factory=class_row(Sample)) as cur:
        await cur.execute(
            for_collection(
                """
                SELECT i.r2_key AS key, i.sha256, i.derivatives, e.embedding::real[] AS vector
                  FROM {embeddings} AS e JOIN {images} AS i USING (id)
                 WHERE e.embedding IS NOT NULL ORDER BY e.id LIMIT %s
                """,
                collection,
            ),
            [limit],
        )
        return await cur.fetchall()


async def is_known(conn: AsyncConnection[Any], *, local: str, model: str) -> bool:
    """Whether *local*, a model with its weights, was found to agree with *model*."""
    cur = await conn.execute("SELECT FROM shared_values WHERE name = %s", [_name(local, model)])
    return cur.rowcount > 0


async def remember(conn: AsyncConnection[Any], *, local: str, model: str, cosine: float) -> None:
    """Note for all servers that *local* agrees with *model*, with this cosine."""
    await conn.execute(
        "INSERT INTO shared_values (name, value) VALUES (%s, %s) ON CONFLICT DO NOTHING",
        [_name(local, model), f"{cosine:.6f}"],
    )


def _name(local: str, model: str) -> str:
    return f"agreement of {local} with {model}"
