"""Collections filled without a syncer: many rows at once, whose objects lie in no bucket."""

from datetime import UTC, datetime, timedelta

import numpy as np
import psycopg
from numpy.typing import NDArray
from psycopg.sql import SQL, Identifier

from shared.db import migrate, table_names
from shared.db.pool import Connection
from shared.sql import collections, execute, vector_index, vector_text

BEGIN = datetime(2024, 1, 1, tzinfo=UTC)


def unit_vectors(count: int, dimensions: int, *, seed: int) -> NDArray[np.float16]:
    """Return random vectors of length 1 in half precision, gathered in clusters as photos are."""
    rng = np.random.default_rng(seed)
    centres = rng.normal(size=(max(1, count // 50), dimensions))
    vectors = centres[rng.integers(0, len(centres), count)] + rng.normal(size=(count, dimensions)) * 0.7
    return (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float16)


async def fill(conn: Connection, bucket: str, model: str, vectors: NDArray[np.float16]) -> None:
    """Make the collection of *bucket*, with an embedded image for each vector, one taken every hour."""
    collection = await collections.ensure(conn, bucket, model=model, dimensions=vectors.shape[1], now=BEGIN)
    base = table_names.base_name(bucket)
    columns = (
        "r2_key, created_at, origin, sha256, size, content_type, width, height, placeholder, derivatives, truncated,"
        " keywords, taken_local, camera"
    )
    images = SQL("COPY {} ({}) FROM STDIN").format(Identifier(f"{base}_images"), SQL(columns))
    async with conn.cursor() as cur, cur.copy(images) as copy:
        for number in range(len(vectors)):
            at, key = BEGIN + timedelta(hours=number), f"2024/{number:06}.jpg"
            placeholder = bytes(90)
            await copy.write_row(
                (key, at, "folder", number.to_bytes(32), 200_000, "image/jpeg", 1600, 1200, placeholder, True, False)
                + ([], at.replace(tzinfo=None), "Pinhole 1")
            )
    ids = SQL("SELECT id, r2_key, created_at FROM {} ORDER BY id").format(Identifier(f"{base}_images"))
    rows = await (await conn.execute(ids)).fetchall()
    # Building the graph once is several times faster than inserting into it.
    await execute(conn, collection, "DROP INDEX {hnsw}")
    embeddings = SQL("COPY {} (id, r2_key, created_at, embedding) FROM STDIN")
    async with conn.cursor() as cur, cur.copy(embeddings.format(Identifier(f"{base}_embeddings"))) as copy:
        for row, vector in zip(rows, vectors.astype(np.float64), strict=True):
            await copy.write_row((*row, vector_text(vector.tolist())))
    await vector_index.create(conn, collection)


async def fill_database(database_url: str, bucket: str, model: str, vectors: NDArray[np.float16]) -> None:
    """Migrate a database and fill a collection of it."""
    async with await psycopg.AsyncConnection.connect(database_url) as conn:
        await migrate.migrate(conn)
        await fill(conn, bucket, model, vectors)
    async with await psycopg.AsyncConnection.connect(database_url, autocommit=True) as conn:
        await conn.execute("ANALYZE")
