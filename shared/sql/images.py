"""Images: rows made, changed and removed; single images and recent ones read."""

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from psycopg import AsyncConnection
from psycopg.rows import class_row, dict_row
from pydantic_core import to_json

from shared.models import Collection, Filters, Image, NewImage
from shared.sql import for_collection
from shared.sql.filters import EVERYTHING, condition

# What shared.models.Image holds, from {images} i, {embeddings} e and {queue} q. A statement that reads images embeds
# this text as it is.
IMAGE_COLUMNS = """i.id, i.r2_key AS key, i.sha256, i.size, i.content_type, i.width, i.height, i.placeholder,
    i.derivatives, i.truncated, i.taken_at, i.camera, i.created_at,
    CASE WHEN e.embedding IS NOT NULL THEN 'embedded' ELSE coalesce(q.state, 'pending') END AS status"""
IMAGE_TABLES = """{images} AS i JOIN {embeddings} AS e USING (id)
    LEFT JOIN {queue} AS q ON q.id = i.id AND q.model = %(model)s"""


async def add(conn: AsyncConnection[Any], collection: Collection, image: NewImage, *, now: datetime) -> int:
    """Add an image, as ``add_many`` does, and return its id."""
    [image_id] = await add_many(conn, collection, [(image, now)])
    return image_id


async def add_many(
    conn: AsyncConnection[Any], collection: Collection, images: Sequence[tuple[NewImage, datetime]]
) -> list[int]:
    """Add images, each with its place among recent ones, and return their ids; their keys are all different.

    They are browsable at once; the vector of each is copied from an image of equal content if there is one, else it
    waits in the queue. Adding the same key and content again changes nothing; the same key with other content replaces
    what the image was, and its vector becomes pending.
    """
    times = {image.key: now for image, now in images}
    cur = await conn.execute(
        for_collection(
            # In one order in all transactions, so that none waits for another that waits for it.
            """
            INSERT INTO {images} AS known (
                r2_key, created_at, origin, sha256, size, content_type, width, height, placeholder, derivatives,
                truncated, taken_at, camera, lens, keywords, caption, latitude, longitude, exif)
            SELECT key, created_at, origin, decode(sha256, 'hex'), size, content_type, width, height, placeholder,
                   derivatives, truncated, taken_at, camera, lens, keywords, caption, latitude, longitude, exif
              FROM jsonb_to_recordset(%s::jsonb) AS new (
                key text, created_at timestamptz, origin text, sha256 text, size bigint, content_type text,
                width integer, height integer, placeholder text, derivatives boolean, truncated boolean,
                taken_at timestamptz, camera text, lens text, keywords text[], caption text,
                latitude double precision, longitude double precision, exif jsonb)
             ORDER BY key COLLATE "C"
            ON CONFLICT (r2_key) DO UPDATE SET
                sha256 = excluded.sha256, size = excluded.size, content_type = excluded.content_type,
                width = excluded.width, height = excluded.height, placeholder = excluded.placeholder,
                derivatives = excluded.derivatives, truncated = excluded.truncated, taken_at = excluded.taken_at,
                camera = excluded.camera, lens = excluded.lens, keywords = excluded.keywords,
                caption = excluded.caption, latitude = excluded.latitude, longitude = excluded.longitude,
                exif = excluded.exif
             WHERE known.sha256 <> excluded.sha256
            RETURNING r2_key, id
            """,
            collection,
        ),
        [to_json([vars(image) | {"created_at": now} for image, now in images], bytes_mode="hex").decode()],
    )
    written = dict(await cur.fetchall())
    if written:
        await _await_vectors(conn, collection, {image_id: times[key] for key, image_id in written.items()})
    if len(written) < len(times):
        unchanged = [key for key in times if key not in written]
        cur = await conn.execute(
            for_collection("SELECT r2_key, id FROM {images} WHERE r2_key = ANY(%s)", collection), [unchanged]
        )
        written |= dict(await cur.fetchall())
    return [written[image.key] for image, _ in images]


async def _await_vectors(conn: AsyncConnection[Any], collection: Collection, times: Mapping[int, datetime]) -> None:
    """Give images, new or with new content, the vectors that are known; queue the others for their *times*."""
    ids = list(times)
    # First without a vector, as every image begins and as an edited one begins again ...
    await conn.execute(
        for_collection(
            """
            INSERT INTO {embeddings} AS known (id, r2_key, created_at)
            SELECT id, r2_key, created_at FROM {images} WHERE id = ANY(%s)
            ON CONFLICT (id) DO UPDATE SET embedding = NULL WHERE known.embedding IS NOT NULL
            """,
            collection,
        ),
        [ids],
    )
    # ... then with that of an image of equal content, so that a copy or a renamed photo is not paid for again ...
    cur = await conn.execute(
        for_collection(
            """
            UPDATE {embeddings} AS mine SET embedding = twin.embedding
              FROM {images} AS new CROSS JOIN LATERAL (
                SELECT e.embedding FROM {images} AS i JOIN {embeddings} AS e USING (id)
                 WHERE i.sha256 = new.sha256 AND i.id <> new.id AND e.embedding IS NOT NULL LIMIT 1) AS twin
             WHERE new.id = ANY(%s) AND mine.id = new.id
            RETURNING mine.id
            """,
            collection,
        ),
        [ids],
    )
    copied = [image_id for (image_id,) in await cur.fetchall()]
    # The model is the one whose vectors the table holds now: a switch to another one waits from here on.
    if copied:
        await conn.execute(
            for_collection(
                """
                DELETE FROM {queue} AS q USING collections AS c
                 WHERE q.id = ANY(%s) AND c.bucket = %s AND q.model = c.model
                """,
                collection,
            ),
            [copied, collection.bucket],
        )
    # ... and else it is work to do. A lease on the old content ends here: its vector will be refused.
    waiting = [image_id for image_id in ids if image_id not in copied]
    await conn.execute(
        for_collection(
            """
            INSERT INTO {queue} (id, model, due_at)
            SELECT new.id, model, new.due_at
              FROM collections, unnest(%s::bigint[], %s::timestamptz[]) AS new (id, due_at) WHERE bucket = %s
            ON CONFLICT (id, model) DO UPDATE SET
                state = 'pending', due_at = excluded.due_at, lease = NULL, attempts = 0,
                reason = NULL, detail = NULL
            """,
            collection,
        ),
        [waiting, [times[image_id] for image_id in waiting], collection.bucket],
    )


async def get(conn: AsyncConnection[Any], collection: Collection, image_id: int) -> Image | None:
    """Return one image, or None."""
    found = await get_many(conn, collection, [image_id])
    return found[0] if found else None


async def get_many(conn: AsyncConnection[Any], collection: Collection, ids: Sequence[int]) -> list[Image]:
    """Return the images that have these ids, in the order of *ids*; ids without an image are passed over."""
    async with conn.cursor(row_factory=class_row(Image)) as cur:
        await cur.execute(
            for_collection(
                f"SELECT {IMAGE_COLUMNS} FROM {IMAGE_TABLES} WHERE i.id = ANY(%(ids)s)",  # noqa: S608 - constants
                collection,
            ),
            {"ids": list(ids), "model": collection.model},
        )
        found = {image.id: image for image in await cur.fetchall()}
    return [found[image_id] for image_id in ids if image_id in found]


async def details(conn: AsyncConnection[Any], collection: Collection, image_id: int) -> dict[str, Any] | None:
    """Return what is known of one image beyond Image: lens, keywords, caption, place, EXIF, failure; or None."""
    async with conn.cursor(row_factory=dict_row) as cur:
        await cur.execute(
            for_collection(
                """
                SELECT i.lens, i.keywords, i.caption, i.latitude, i.longitude, i.exif, i.origin,
                       q.reason AS failure_reason, q.detail AS failure_detail
                  FROM {images} AS i LEFT JOIN {queue} AS q ON q.id = i.id AND q.model = %(model)s
                 WHERE i.id = %(id)s
                """,
                collection,
            ),
            {"id": image_id, "model": collection.model},
        )
        return await cur.fetchone()


async def recent(
    conn: AsyncConnection[Any],
    collection: Collection,
    filters: Filters = EVERYTHING,
    *,
    limit: int,
    before: tuple[datetime, int] | None = None,
) -> list[Image]:
    """Return up to *limit* images, newest first; with *before*, those that come after that (created_at, id)."""
    created_at, image_id = before or (None, None)
    wanted, values = condition(filters)
    async with conn.cursor(row_factory=class_row(Image)) as cur:
        await cur.execute(
            for_collection(
                f"""
                SELECT {IMAGE_COLUMNS} FROM {IMAGE_TABLES}
                 WHERE (%(created_at)s::timestamptz IS NULL OR (i.created_at, i.id) < (%(created_at)s, %(id)s))
                   AND {wanted}
                 ORDER BY i.created_at DESC, i.id DESC LIMIT %(limit)s
                """,  # noqa: S608 - constants
                collection,
            ),
            values | {"created_at": created_at, "id": image_id, "limit": limit, "model": collection.model},
        )
        return await cur.fetchall()


async def own_keys(conn: AsyncConnection[Any], collection: Collection, *, after: str, limit: int) -> list[str]:
    """Return keys of objects that we put into the bucket, by key, behind *after*; adopted ones are not ours."""
    cur = await conn.execute(
        for_collection(
            """
            SELECT r2_key FROM {images} WHERE r2_key > %(after)s AND origin <> 'adopted'
             ORDER BY r2_key LIMIT %(limit)s
            """,
            collection,
        ),
        {"after": after, "limit": limit},
    )
    return [key for (key,) in await cur.fetchall()]
