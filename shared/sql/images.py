"""Images: add one, and read one, many or the most recent ones."""

from collections.abc import Sequence
from datetime import datetime
from typing import Any

from psycopg.types.json import Jsonb

from shared.db.pool import Connection
from shared.models import Collection, Filters, Image, NewImage
from shared.sql import execute, fetch_all, fetch_one, fetch_value
from shared.sql.filters import EVERYTHING, condition

# The columns of shared.models.Image, for statements that read images.
IMAGE_COLUMNS = """i.id, i.r2_key AS key, i.sha256, i.size, i.content_type, i.width, i.height, i.placeholder,
    i.derivatives, i.truncated, i.taken_local, i.taken_offset, i.camera, i.created_at,
    CASE WHEN e.embedding IS NOT NULL THEN 'embedded' ELSE coalesce(q.state, 'pending') END AS status"""
IMAGE_TABLES = """{images} AS i JOIN {embeddings} AS e USING (id)
    LEFT JOIN {queue} AS q ON q.id = i.id AND q.model = %(model)s"""


async def add(conn: Connection, collection: Collection, image: NewImage, *, now: datetime) -> int:
    """Add an image and return its id; *now* orders it among recent images.

    The image can be browsed at once. Its vector is copied from an image with the same content, else it is queued.
    Adding the same key and content again changes nothing. The same key with other content replaces the image.
    """
    statement = """
        INSERT INTO {images} AS existing (
            r2_key, created_at, origin, sha256, size, content_type, width, height, placeholder, derivatives,
            truncated, taken_local, taken_offset, camera, lens, keywords, title, caption, latitude, longitude, exif)
        VALUES (
            %(key)s, %(now)s, %(origin)s, %(sha256)s, %(size)s, %(content_type)s, %(width)s, %(height)s,
            %(placeholder)s, %(derivatives)s, %(truncated)s, %(taken_local)s, %(taken_offset)s, %(camera)s, %(lens)s,
            %(keywords)s, %(title)s, %(caption)s, %(latitude)s, %(longitude)s, %(exif)s)
        ON CONFLICT (r2_key) DO UPDATE SET
            sha256 = excluded.sha256, size = excluded.size, content_type = excluded.content_type,
            width = excluded.width, height = excluded.height, placeholder = excluded.placeholder,
            derivatives = excluded.derivatives, truncated = excluded.truncated, taken_local = excluded.taken_local,
            taken_offset = excluded.taken_offset, camera = excluded.camera, lens = excluded.lens,
            keywords = excluded.keywords, title = excluded.title, caption = excluded.caption,
            latitude = excluded.latitude, longitude = excluded.longitude, exif = excluded.exif
         WHERE existing.sha256 <> excluded.sha256
        RETURNING id
    """
    parameters = vars(image) | {
        "keywords": list(image.keywords),
        "exif": None if image.exif is None else Jsonb(image.exif),
        "now": now,
    }
    written = await execute(conn, collection, statement, parameters)
    if row := await written.fetchone():
        await _copy_or_queue_vector(conn, collection, row[0], image.sha256, now=now)
        return int(row[0])
    return int(await fetch_value(conn, collection, "SELECT id FROM {images} WHERE r2_key = %s", [image.key]))


async def _copy_or_queue_vector(
    conn: Connection, collection: Collection, image_id: int, sha256: bytes, *, now: datetime
) -> None:
    """Give an image, new or with new content, the vector of an image with the same content, or queue it."""
    statement = """
        INSERT INTO {embeddings} (id, r2_key, created_at, embedding)
        SELECT id, r2_key, created_at, (
            SELECT e.embedding FROM {images} AS twin JOIN {embeddings} AS e USING (id)
             WHERE twin.sha256 = %(sha256)s AND twin.id <> %(id)s AND e.embedding IS NOT NULL LIMIT 1)
          FROM {images} WHERE id = %(id)s
        ON CONFLICT (id) DO UPDATE SET embedding = excluded.embedding
        RETURNING embedding IS NOT NULL
    """
    copied = await fetch_value(conn, collection, statement, {"id": image_id, "sha256": sha256})
    # The queue's model is read from the table: a switch to another model waits from here on.
    if copied:
        statement = (
            "DELETE FROM {queue} AS q USING collections AS c WHERE q.id = %s AND c.bucket = %s AND q.model = c.model"
        )
        await execute(conn, collection, statement, [image_id, collection.bucket])
        return
    # This ends a lease on the old content: its vector will be refused.
    statement = """
        INSERT INTO {queue} (id, model, due_at)
        SELECT %s, model, %s FROM collections WHERE bucket = %s
        ON CONFLICT (id, model) DO UPDATE SET
            state = 'pending', due_at = excluded.due_at, lease = NULL, attempts = 0, reason = NULL, detail = NULL
    """
    await execute(conn, collection, statement, [image_id, now, collection.bucket])


async def get(conn: Connection, collection: Collection, image_id: int) -> Image | None:
    """Return one image, or None."""
    found = await get_many(conn, collection, [image_id])
    return found[0] if found else None


async def get_many(conn: Connection, collection: Collection, ids: Sequence[int]) -> list[Image]:
    """Return the images with these ids, in the order of *ids*; unknown ids are skipped."""
    statement = f"SELECT {IMAGE_COLUMNS} FROM {IMAGE_TABLES} WHERE i.id = ANY(%(ids)s)"  # noqa: S608 - constants
    found = await fetch_all(conn, collection, Image, statement, {"ids": list(ids), "model": collection.model})
    by_id = {image.id: image for image in found}
    return [by_id[image_id] for image_id in ids if image_id in by_id]


async def details(conn: Connection, collection: Collection, image_id: int) -> dict[str, Any] | None:
    """Return an image's metadata, origin and failure, without what lists contain; None for an unknown image."""
    statement = """
        SELECT i.lens, i.keywords, i.title, i.caption, i.latitude, i.longitude, i.exif, i.origin,
               q.reason AS failure_reason, q.detail AS failure_detail
          FROM {images} AS i LEFT JOIN {queue} AS q ON q.id = i.id AND q.model = %(model)s
         WHERE i.id = %(id)s
    """
    return await fetch_one(conn, collection, dict[str, Any], statement, {"id": image_id, "model": collection.model})


async def recent(
    conn: Connection,
    collection: Collection,
    filters: Filters = EVERYTHING,
    *,
    limit: int,
    before: tuple[datetime, int] | None = None,
) -> list[Image]:
    """Return up to *limit* images, newest first; with *before*, only those that follow that (created_at, id)."""
    created_at, image_id = before or (None, None)
    where, values = condition(filters)
    statement = f"""
        SELECT {IMAGE_COLUMNS} FROM {IMAGE_TABLES}
         WHERE (%(created_at)s::timestamptz IS NULL OR (i.created_at, i.id) < (%(created_at)s, %(id)s))
           AND {where}
         ORDER BY i.created_at DESC, i.id DESC LIMIT %(limit)s
    """  # noqa: S608 - constants
    values |= {"created_at": created_at, "id": image_id, "limit": limit, "model": collection.model}
    return await fetch_all(conn, collection, Image, statement, values)


async def own_keys(conn: Connection, collection: Collection, *, after: str, limit: int) -> list[str]:
    """Return up to *limit* keys greater than *after* of objects that we stored, in order; adopted ones are not ours."""
    statement = """
        SELECT r2_key FROM {images} WHERE r2_key > %(after)s AND origin <> 'adopted'
         ORDER BY r2_key LIMIT %(limit)s
    """
    cur = await execute(conn, collection, statement, {"after": after, "limit": limit})
    return [key for (key,) in await cur.fetchall()]
