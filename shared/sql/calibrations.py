"""Weak-match thresholds of collections, measured by ``syncer calibrate``."""

from dataclasses import dataclass
from datetime import datetime

from shared.db.pool import Connection
from shared.models import Collection
from shared.sql import execute, fetch_one, fetch_value


@dataclass(frozen=True)
class Calibration:
    """Cosines that meaningless queries reach in a collection: a threshold, and the mean.

    ``words_level`` is the threshold of the best matches of nonsense texts, ``words_mean`` the mean cosine of such a
    text and any image; ``image_level`` and ``image_mean`` are those of random pairs of images. ``images`` is the
    number of embedded images at that time.
    """

    words_level: float
    words_mean: float
    image_level: float
    image_mean: float
    images: int
    measured_at: datetime


async def find(conn: Connection, bucket: str, model: str) -> Calibration | None:
    """Return the calibration of the bucket's collection with this model."""
    statement = """
        SELECT words_level, words_mean, image_level, image_mean, images, measured_at
          FROM calibrations WHERE bucket = %s AND model = %s
    """
    return await fetch_one(conn, None, Calibration, statement, [bucket, model])


async def save(conn: Connection, bucket: str, model: str, measured: Calibration) -> None:
    """Store a calibration in place of the previous one."""
    statement = """
        INSERT INTO calibrations
            (bucket, model, words_level, words_mean, image_level, image_mean, images, measured_at)
        VALUES (%(bucket)s, %(model)s, %(words_level)s, %(words_mean)s, %(image_level)s, %(image_mean)s, %(images)s,
            %(measured_at)s)
        ON CONFLICT (bucket, model) DO UPDATE SET
            words_level = excluded.words_level, words_mean = excluded.words_mean,
            image_level = excluded.image_level, image_mean = excluded.image_mean,
            images = excluded.images, measured_at = excluded.measured_at
    """
    await conn.execute(statement, {"bucket": bucket, "model": model} | vars(measured))


async def uncalibrated(conn: Connection) -> list[tuple[str, str]]:
    """Return bucket and model of the collections without a calibration of their current model."""
    # `syncer doctor` may run before the migration.
    if not await fetch_value(conn, None, "SELECT to_regclass('calibrations') IS NOT NULL"):
        return []
    statement = """
        SELECT bucket, model FROM collections AS c
         WHERE NOT EXISTS (SELECT FROM calibrations AS m WHERE m.bucket = c.bucket AND m.model = c.model)
         ORDER BY bucket
    """
    cur = await conn.execute(statement)
    return await cur.fetchall()


async def random_vectors(conn: Connection, collection: Collection, *, limit: int) -> list[list[float]]:
    """Return the vectors of up to *limit* random images of different content."""
    statement = """
        SELECT embedding::real[] FROM {embeddings}
         WHERE embedding IS NOT NULL AND id IN (
            SELECT min(i.id) FROM {images} AS i
             WHERE NOT EXISTS (SELECT FROM {queue} AS q WHERE q.id = i.id AND q.model = %s)
             GROUP BY i.sha256 ORDER BY random() LIMIT %s)
    """
    cur = await execute(conn, collection, statement, [collection.model, limit])
    return [vector for (vector,) in await cur.fetchall()]
