"""Images: add one, and read one, many or a list in the order of a date."""

from base64 import b64decode
from collections.abc import Sequence
from datetime import datetime
from typing import Any, LiteralString

from pydantic_core import to_json

from shared import colours
from shared.db.pool import Connection
from shared.models import Collection, Filters, Image, NewImage, Sort
from shared.sql import execute, fetch_all, fetch_each, fetch_one, fetch_value, placement
from shared.sql.filters import EVERYTHING, condition
from shared.sql.placement import VectorRow

_LISTED_COLUMNS = """i.id, i.r2_key AS key, i.sha256, i.size, i.content_type, i.width, i.height,
    'data:image/webp;base64,' || replace(encode(i.placeholder, 'base64'), E'\\n', '') AS placeholder,
    i.derivatives, i.truncated, i.taken_local, i.taken_offset, i.camera, i.created_at"""
# The columns of shared.models.Image, in its order, for statements that read images.
IMAGE_COLUMNS = f"{_LISTED_COLUMNS}, coalesce(q.state, 'embedded') AS status"
IMAGE_TABLES = "{images} AS i LEFT JOIN {queue} AS q ON q.id = i.id AND q.model = %(model)s"
# The same for images that are known to have a vector.
EMBEDDED_IMAGE_COLUMNS = f"{_LISTED_COLUMNS}, 'embedded' AS status"

# The time that orders a list, and whether the latest comes first. Each has an index.
_ORDERS: dict[Sort, tuple[LiteralString, bool]] = {
    "-created": ("i.created_at", True),
    "created": ("i.created_at", False),
    "-taken": ("i.taken_at", True),
    "taken": ("i.taken_at", False),
}
# The place of an image in such a list: its time and id.
Place = tuple[datetime | None, int]

_METADATA_COLUMNS = """taken_local, taken_offset, camera, lens, keywords, title, caption, latitude, longitude, places,
    exif"""
# The columns that depend on the image file alone.
_FILE_COLUMNS = f"""sha256, size, content_type, width, height, placeholder, derivatives, truncated,
    colours, {_METADATA_COLUMNS}"""


async def add(conn: Connection, collection: Collection, image: NewImage, *, now: datetime) -> int:
    """Add one image like ``add_many``."""
    [image_id] = await add_many(conn, collection, [(image, now)])
    return image_id


async def add_many(conn: Connection, collection: Collection, new: Sequence[tuple[NewImage, datetime]]) -> list[int]:
    """Add images with different keys and return their ids; the times order them among recent images.

    The images can be browsed at once. The vector of each is copied from an image with the same content, else the image
    is queued. Adding the same key and content again changes nothing. The same key with other content replaces the
    image.
    """
    keys = [image.key for image, _ in new]
    ids = await _ids(conn, collection, keys)
    # Existing images one by one: each has the vector of its old content until then, which no other may take.
    existing = [[each] for each in new if each[0].key in ids]
    for part in [[each for each in new if each[0].key not in ids], *existing]:
        if part:
            ids |= await _write(conn, collection, part)
    if len(ids) < len(new):  # another process has just added the same image
        ids = await _ids(conn, collection, keys)
    return [ids[key] for key in keys]


async def _ids(conn: Connection, collection: Collection, keys: Sequence[str]) -> dict[str, int]:
    cur = await execute(conn, collection, "SELECT r2_key, id FROM {images} WHERE r2_key = ANY(%s)", [keys])
    return dict(await cur.fetchall())


async def _write(conn: Connection, collection: Collection, new: Sequence[tuple[NewImage, datetime]]) -> dict[str, int]:
    """Insert or replace images; return the ids by key of those that were not the same already."""
    statement = f"""
        WITH given AS (SELECT * FROM json_populate_recordset(NULL::{{images}}, %(rows)s))
        INSERT INTO {{images}} AS existing (r2_key, created_at, origin, {_FILE_COLUMNS})
        SELECT r2_key, created_at, origin, {_FILE_COLUMNS} FROM given ORDER BY r2_key
        ON CONFLICT (r2_key) DO UPDATE
           SET ({_FILE_COLUMNS}) = (SELECT {_FILE_COLUMNS} FROM given WHERE given.r2_key = existing.r2_key)
         WHERE existing.sha256 <> excluded.sha256
        RETURNING r2_key, id
    """  # noqa: S608 - constants
    rows = [_as_row(image) | {"created_at": now} for image, now in new]
    cur = await execute(conn, collection, statement, {"rows": to_json(rows).decode()})
    if ids := dict(await cur.fetchall()):
        await _copy_or_queue_vectors(conn, collection, list(ids.values()))
    return ids


async def update_metadata(conn: Connection, collection: Collection, image_id: int, image: NewImage) -> None:
    """Replace the metadata of an image, if it still has the content of *image*."""
    statement = f"""
        UPDATE {{images}}
           SET ({_METADATA_COLUMNS}) = (SELECT {_METADATA_COLUMNS}
                                          FROM json_populate_record(NULL::{{images}}, %(row)s))
         WHERE id = %(id)s AND sha256 = %(sha256)s
    """  # noqa: S608 - constants
    parameters = {"id": image_id, "sha256": image.sha256, "row": to_json(_as_row(image)).decode()}
    await execute(conn, collection, statement, parameters)


def _as_row(image: NewImage) -> dict[str, Any]:
    row = vars(image) | {"r2_key": image.key, "sha256": rf"\x{image.sha256.hex()}"}
    if image.placeholder:
        row["placeholder"] = rf"\x{b64decode(image.placeholder.partition(',')[2]).hex()}"
    return row


async def _copy_or_queue_vectors(conn: Connection, collection: Collection, ids: Sequence[int]) -> None:
    """Give images, new or with new content, the vectors of images with the same content, or queue them."""
    if collection.placement != "local":
        await _copy_or_queue_placed_vectors(conn, collection, ids)
        return
    # The queue's model is read from the table: a switch to another model waits from here on. A new entry ends a lease
    # on the old content: its vector will be refused.
    statement = """
        WITH added AS (
            INSERT INTO {embeddings} (id, r2_key, created_at, embedding)
            SELECT i.id, i.r2_key, i.created_at, (
                SELECT e.embedding FROM {images} AS twin JOIN {embeddings} AS e USING (id)
                 WHERE twin.sha256 = i.sha256 AND twin.id <> i.id AND e.embedding IS NOT NULL LIMIT 1)
              FROM {images} AS i WHERE i.id = ANY(%(ids)s)
            ON CONFLICT (id) DO UPDATE SET embedding = excluded.embedding
            RETURNING id, created_at, embedding IS NOT NULL AS copied),
        unqueued AS (
            DELETE FROM {queue} AS q USING added, collections AS c
             WHERE q.id = added.id AND added.copied AND c.bucket = %(bucket)s AND q.model = c.model)
        INSERT INTO {queue} (id, model, due_at)
        SELECT added.id, c.model, added.created_at FROM added, collections AS c
         WHERE NOT added.copied AND c.bucket = %(bucket)s
        ON CONFLICT (id, model) DO UPDATE SET
            state = 'pending', due_at = excluded.due_at, lease = NULL, attempts = 0, reason = NULL, detail = NULL
    """
    await execute(conn, collection, statement, {"ids": list(ids), "bucket": collection.bucket})


async def _copy_or_queue_placed_vectors(conn: Connection, collection: Collection, ids: Sequence[int]) -> None:
    model = await fetch_value(conn, None, "SELECT model FROM collections WHERE bucket = %s", [collection.bucket])
    parameters = {"ids": list(ids), "model": model}
    statement = """
        SELECT i.id, i.r2_key, i.created_at, (
            SELECT twin.id FROM {images} AS twin
             WHERE twin.sha256 = i.sha256 AND twin.id <> ALL(%(ids)s)
               AND NOT EXISTS (SELECT FROM {queue} AS q WHERE q.id = twin.id AND q.model = %(model)s) LIMIT 1) AS twin
          FROM {images} AS i WHERE i.id = ANY(%(ids)s)
    """
    added = await (await execute(conn, collection, statement, parameters)).fetchall()
    statement = "SELECT id, embedding::text FROM {embeddings} WHERE id = ANY(%s) AND embedding IS NOT NULL"
    found = await execute(conn, collection, statement, [[twin for *_, twin in added if twin is not None]])
    vectors = dict(await found.fetchall())
    rows = [VectorRow(image_id, key, at, vectors.get(twin)) for image_id, key, at, twin in added]
    await placement.add_rows(conn, collection, rows, overwrite=True)
    statement = """
        WITH added AS (
            SELECT id, created_at, id = ANY(%(copied)s) AS copied FROM {images} WHERE id = ANY(%(ids)s)),
        unqueued AS (
            DELETE FROM {queue} AS q USING added WHERE q.id = added.id AND added.copied AND q.model = %(model)s)
        INSERT INTO {queue} (id, model, due_at)
        SELECT id, %(model)s, created_at FROM added WHERE NOT copied
        ON CONFLICT (id, model) DO UPDATE SET
            state = 'pending', due_at = excluded.due_at, lease = NULL, attempts = 0, reason = NULL, detail = NULL
    """
    parameters["copied"] = [row.id for row in rows if row.embedding]
    await execute(conn, collection, statement, parameters)


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
        SELECT i.lens, i.colours, i.keywords,
               ARRAY(SELECT p.name FROM places AS p WHERE p.id = ANY (i.places)
                      ORDER BY array_position(i.places, p.id)) AS places,
               i.title, i.caption, i.latitude, i.longitude, i.exif, i.origin,
               q.reason AS failure_reason, q.detail AS failure_detail
          FROM {images} AS i LEFT JOIN {queue} AS q ON q.id = i.id AND q.model = %(model)s
         WHERE i.id = %(id)s
    """
    values = {"id": image_id, "model": collection.model}
    found = await fetch_one(conn, collection, dict[str, Any], statement, values)
    return found and found | {"colours": colours.names(found["colours"] or [])}


async def keywords(conn: Connection, collection: Collection, ids: Sequence[int]) -> dict[int, list[str]]:
    """Return the keywords of images by their ids."""
    cur = await execute(conn, collection, "SELECT id, keywords FROM {images} WHERE id = ANY(%s)", [list(ids)])
    return dict(await cur.fetchall())


async def list_sorted(
    conn: Connection,
    collection: Collection,
    filters: Filters = EVERYTHING,
    *,
    sort: Sort,
    limit: int,
    after: Place | None = None,
    before: Place | None = None,
) -> list[Image]:
    """Return the first *limit* images in the order of *sort*, or those that follow *after* or precede *before*.

    Images without the time come last in both directions.
    """
    time, latest_first = _ORDERS[sort]
    direction, follows = ("DESC", "<") if latest_first != bool(before) else ("ASC", ">")
    where, values = condition(filters)
    # Two statements: read in one of the directions, the index has undated images first.
    dated: LiteralString = f"""
        {time} IS NOT NULL AND (%(time)s::timestamptz IS NULL OR ({time}, i.id) {follows} (%(time)s, %(id)s))"""
    undated: LiteralString = f"""
        {time} IS NULL AND (%(time)s::timestamptz IS NOT NULL OR %(id)s::bigint IS NULL OR i.id {follows} %(id)s)"""
    place = before or after or (None, None)
    values |= {"time": place[0], "id": place[1], "model": collection.model}
    found: list[Image] = []
    for part in _parts(dated, undated, from_undated=place[0] is None and place[1] is not None, backwards=bool(before)):
        if len(found) < limit:
            statement: LiteralString = f"""
                SELECT {IMAGE_COLUMNS} FROM {IMAGE_TABLES} WHERE {part} AND {where}
                 ORDER BY {time} {direction}, i.id {direction} LIMIT %(limit)s
            """  # noqa: S608 - constants
            found += await fetch_all(conn, collection, Image, statement, values | {"limit": limit - len(found)})
    return found[::-1] if before else found


async def latest_of_each(conn: Connection, collections: Sequence[Collection]) -> dict[Collection, list[Image]]:
    """Return the image added last to each of the collections, as a list; those dropped meanwhile are left out."""
    statement = f"SELECT {IMAGE_COLUMNS} FROM {IMAGE_TABLES} ORDER BY i.created_at DESC, i.id DESC LIMIT 1"  # noqa: S608 - constants
    return await fetch_each(conn, collections, Image, statement)


def _parts(
    dated: LiteralString, undated: LiteralString, *, from_undated: bool, backwards: bool
) -> Sequence[LiteralString]:
    """Return the parts of a list from a place on, in the order in which they are read."""
    if backwards:
        return (undated, dated) if from_undated else (dated,)
    return (undated,) if from_undated else (dated, undated)


async def sort_ids(conn: Connection, collection: Collection, ids: Sequence[int], sort: Sort) -> list[int]:
    """Return the *ids* of existing images in the order of *sort*."""
    time, latest_first = _ORDERS[sort]
    direction: LiteralString = "DESC" if latest_first else "ASC"
    statement = f"""
        SELECT i.id FROM {{images}} AS i WHERE i.id = ANY(%s) ORDER BY {time} {direction} NULLS LAST, i.id {direction}
    """  # noqa: S608 - constants
    cur = await execute(conn, collection, statement, [list(ids)])
    return [image_id for (image_id,) in await cur.fetchall()]


async def own_keys(conn: Connection, collection: Collection, *, after: str, limit: int) -> list[str]:
    """Return up to *limit* keys greater than *after* of objects that we stored, in order; adopted ones are not ours."""
    statement = """
        SELECT r2_key FROM {images} WHERE r2_key > %(after)s AND origin <> 'adopted'
         ORDER BY r2_key LIMIT %(limit)s
    """
    cur = await execute(conn, collection, statement, {"after": after, "limit": limit})
    return [key for (key,) in await cur.fetchall()]
