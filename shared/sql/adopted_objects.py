"""Objects that lie in the bucket: which of them are indexed."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from psycopg import AsyncConnection
from psycopg.rows import class_row

from shared.models import Collection
from shared.sql import for_collection, pending_objects

# Of an image that is still what was adopted, and not what a folder has put under its key since.
_ADOPTED = "(i.origin = 'adopted' AND i.sha256 = f.sha256)"


@dataclass(frozen=True)
class KnownObject:
    """What is known of the object under ``key``.

    ``origin`` is that of its image, None where there is none. ``size`` and ``mark`` are those with which it was
    adopted, removed through the API since or, with a ``reason``, refused; None where it was neither. ``in_hand`` says
    that somebody is about to store or delete it.
    """

    key: str
    origin: str | None = None
    size: int | None = None
    mark: int | None = None
    reason: str | None = None
    in_hand: bool = False


@dataclass(frozen=True)
class Missing:
    """A known object that the bucket does not list.

    ``adopted`` says that it is an image, which may go with it, ``removed`` that its image was removed through the API.
    One that is neither was no image.
    """

    key: str
    adopted: bool
    removed: bool


async def known(
    conn: AsyncConnection[Any], collection: Collection, source: int, keys: Sequence[str]
) -> list[KnownObject]:
    """Return for each of *keys*, in their order, what is known of its object; *source* is that of adopted objects."""
    async with conn.cursor(row_factory=class_row(KnownObject)) as cur:
        await cur.execute(
            for_collection(
                """
                SELECT listed.key, i.origin, f.size, f.ctime_ns AS mark, f.reason,
                       i.id IS NULL AND EXISTS (SELECT FROM {pending_objects} AS t WHERE t.key = listed.key) AS in_hand
                  FROM unnest(%(keys)s::text[]) WITH ORDINALITY AS listed (key, position)
                  LEFT JOIN {images} AS i ON i.r2_key = listed.key
                  LEFT JOIN {files} AS f ON f.source_id = %(source)s AND f.path = listed.key
                       AND (f.image_id IS NOT NULL OR f.removed OR f.reason IS NOT NULL)
                 ORDER BY listed.position
                """,
                collection,
            ),
            {"source": source, "keys": list(keys)},
        )
        return await cur.fetchall()


async def reclaim(conn: AsyncConnection[Any], collection: Collection, source: int, key: str, sha256: bytes) -> None:
    """Make the adopted image under *key* the collection's own, as if a folder had brought it, if it has this content.

    What *source*, that of adopted objects, knows of it is forgotten: only what a folder brings is ever deleted with it.
    """
    reclaimed = await conn.execute(
        for_collection(
            "UPDATE {images} SET origin = 'folder' WHERE r2_key = %s AND origin = 'adopted' AND sha256 = %s", collection
        ),
        [key, sha256],
    )
    if reclaimed.rowcount:
        await conn.execute(
            for_collection("DELETE FROM {files} WHERE source_id = %s AND path = %s", collection), [source, key]
        )


async def missing(
    conn: AsyncConnection[Any],
    collection: Collection,
    source: int,
    *,
    prefix: str,
    keys: Sequence[str],
    after: str,
    to: str | None,
) -> list[Missing]:
    """Return, by key, the known objects under *prefix* that are not among *keys*, from behind *after* up to *to*.

    Both are keys; None for *to* is the end.
    """
    async with conn.cursor(row_factory=class_row(Missing)) as cur:
        await cur.execute(
            for_collection(
                f"""
                SELECT f.path AS key, i.id IS NOT NULL AS adopted, f.removed
                  FROM {{files}} AS f LEFT JOIN {{images}} AS i ON i.id = f.image_id
                 WHERE f.source_id = %(source)s AND f.path > %(after)s AND f.path >= %(prefix)s
                   AND (%(to)s::text IS NULL OR f.path <= %(to)s) AND starts_with(f.path, %(prefix)s)
                   AND f.path <> ALL(%(keys)s) AND (i.id IS NULL OR {_ADOPTED})
                 ORDER BY f.path
                """,  # noqa: S608 - a constant
                collection,
            ),
            {"source": source, "prefix": prefix, "keys": list(keys), "after": after, "to": to},
        )
        return await cur.fetchall()


async def count(conn: AsyncConnection[Any], collection: Collection, source: int, *, prefix: str) -> int:
    """Return how many images of *source*, that of adopted objects, are under *prefix*."""
    cur = await conn.execute(
        for_collection(
            """
            SELECT count(*) FROM {files} AS f
             WHERE source_id = %(source)s AND path >= %(prefix)s AND starts_with(path, %(prefix)s)
               AND image_id IS NOT NULL
            """,
            collection,
        ),
        {"source": source, "prefix": prefix},
    )
    row = await cur.fetchone()
    assert row is not None
    return int(row[0])


async def delete_images(conn: AsyncConnection[Any], collection: Collection, source: int, keys: Sequence[str]) -> int:
    """Remove the adopted images under *keys*, whose objects are gone, and note their thumbnails to go; return how many.

    Folders that hold one of them, too, bring it with their next sync.
    """
    cur = await conn.execute(
        for_collection(
            f"""
            SELECT i.id FROM {{files}} AS f JOIN {{images}} AS i ON i.id = f.image_id
             WHERE f.source_id = %(source)s AND f.path = ANY(%(keys)s) AND {_ADOPTED}
            """,  # noqa: S608 - a constant
            collection,
        ),
        {"source": source, "keys": list(keys)},
    )
    return await pending_objects.delete_images(
        conn, collection, [row[0] for row in await cur.fetchall()], tombstone=False
    )
