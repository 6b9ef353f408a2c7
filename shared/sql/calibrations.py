"""What nonsense scores in each collection, as ``syncer calibrate`` measured it."""

from dataclasses import dataclass
from datetime import datetime
from typing import Any

from psycopg import AsyncConnection
from psycopg.rows import class_row

from shared.models import Collection
from shared.sql import for_collection


@dataclass(frozen=True)
class Calibration:
    """Cosines that chance reaches in a collection: the level to beat, and the mean.

    ``words_level`` is what the best matches of nonsense texts reach, ``words_mean`` what any image scores with one;
    ``image_level`` and ``image_mean`` are those of two images picked at random. ``images`` had vectors at that time.
    """

    words_level: float
    words_mean: float
    image_level: float
    image_mean: float
    images: int
    measured_at: datetime


async def find(conn: AsyncConnection[Any], bucket: str, model: str) -> Calibration | None:
    """Return what was measured in the collection of *bucket* with that model; None where nothing was."""
    async with conn.cursor(row_factory=class_row(Calibration)) as cur:
        await cur.execute(
            "SELECT words_level, words_mean, image_level, image_mean, images, measured_at"
            " FROM calibrations WHERE bucket = %s AND model = %s",
            [bucket, model],
        )
        return await cur.fetchone()


async def save(conn: AsyncConnection[Any], bucket: str, model: str, measured: Calibration) -> None:
    """Keep what was measured, in the place of what was before."""
    await conn.execute(
        """
        INSERT INTO calibrations
            (bucket, model, words_level, words_mean, image_level, image_mean, images, measured_at)
        VALUES (%(bucket)s, %(model)s, %(words_level)s, %(words_mean)s, %(image_level)s, %(image_mean)s, %(images)s,
            %(measured_at)s)
        ON CONFLICT (bucket, model) DO UPDATE SET
            words_level = excluded.words_level, words_mean = excluded.words_mean,
            image_level = excluded.image_level, image_mean = excluded.image_mean,
            images = excluded.images, measured_at = excluded.measured_at
        """,
        {"bucket": bucket, "model": model} | vars(measured),
    )


async def uncalibrated(conn: AsyncConnection[Any]) -> list[tuple[str, str]]:
    """Return bucket and model of the collections in which nothing was measured with the model that they have now."""
    # Who asks may not have applied the migration.
    row = await (await conn.execute("SELECT to_regclass('calibrations') IS NOT NULL")).fetchone()
    if not row or not row[0]:
        return []
    cur = await conn.execute(
        """
        SELECT bucket, model FROM collections AS c
         WHERE NOT EXISTS (SELECT FROM calibrations AS m WHERE m.bucket = c.bucket AND m.model = c.model)
         ORDER BY bucket
        """
    )
    return await cur.fetchall()


async def random_vectors(conn: AsyncConnection[Any], collection: Collection, *, limit: int) -> list[list[float]]:
    """Return the vectors of up to *limit* different images, picked at random."""
    cur = await conn.execute(
        for_collection(
            # The ids come first: sorting vectors would read and carry all of them.
            """
            SELECT e.embedding::real[]
              FROM (SELECT min(i.id) AS id FROM {images} AS i JOIN {embeddings} AS has USING (id)
                     WHERE has.embedding IS NOT NULL GROUP BY i.sha256
                     ORDER BY random() LIMIT %s) AS picked
              JOIN {embeddings} AS e USING (id)
            """,
            collection,
        ),
        [limit],
    )
    return [list(row[0]) for row in await cur.fetchall()]
