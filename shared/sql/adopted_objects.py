"""Adopted objects: the index state of what a bucket lists, and what it no longer lists."""

from collections.abc import Sequence
from dataclasses import dataclass

from shared.db.pool import Connection
from shared.models import Collection
from shared.sql import execute, fetch_all, fetch_value, pending_objects

# The image is still the adopted one: no folder has uploaded another under its key since.
_ADOPTED = "(i.origin = 'adopted' AND i.sha256 = f.sha256)"


@dataclass(frozen=True)
class ObjectState:
    """Index state of the object under ``key``.

    ``origin`` is that of its image, if there is one. ``size`` and ``version`` are those of the object when it was
    adopted or, with a ``reason``, rejected; they also remain as a tombstone after a deletion through the API. ``busy``
    means that an upload or deletion of the key is in progress.
    """

    key: str
    origin: str | None = None
    size: int | None = None
    version: int | None = None
    reason: str | None = None
    busy: bool = False


@dataclass(frozen=True)
class AdoptedImage:
    """An adopted image; ``sidecar`` is the state of its sidecar when its metadata were read, "" without one."""

    key: str
    id: int
    sidecar: str


@dataclass(frozen=True)
class MissingObject:
    """A recorded object that the bucket no longer lists.

    It was ``adopted`` as an image or rejected, or is the tombstone (``removed``) of an image deleted through the API.
    """

    key: str
    adopted: bool
    removed: bool

    @property
    def rejected(self) -> bool:
        return not (self.adopted or self.removed)


async def states(conn: Connection, collection: Collection, source: int, keys: Sequence[str]) -> list[ObjectState]:
    """Return the state of each of *keys*, in the same order; *source* is that of adopted objects."""
    statement = """
        SELECT listed.key, i.origin, f.size, f.ctime_ns AS version, f.reason,
               i.id IS NULL AND EXISTS (SELECT FROM {pending_objects} AS t WHERE t.key = listed.key) AS busy
          FROM unnest(%(keys)s::text[]) WITH ORDINALITY AS listed (key, position)
          LEFT JOIN {images} AS i ON i.r2_key = listed.key
          LEFT JOIN {files} AS f ON f.source_id = %(source)s AND f.path = listed.key
               AND (f.image_id IS NOT NULL OR f.removed OR f.reason IS NOT NULL)
         ORDER BY listed.position
    """
    return await fetch_all(conn, collection, ObjectState, statement, {"source": source, "keys": list(keys)})


async def reclaim(conn: Connection, collection: Collection, source: int, key: str, sha256: bytes) -> None:
    """Turn the adopted image under *key*, if it has this content, into one uploaded from a folder.

    Its record in *source*, that of adopted objects, is deleted, so that an adoption never deletes the image.
    """
    statement = "UPDATE {images} SET origin = 'folder' WHERE r2_key = %s AND origin = 'adopted' AND sha256 = %s"
    reclaimed = await execute(conn, collection, statement, [key, sha256])
    if reclaimed.rowcount:
        await execute(conn, collection, "DELETE FROM {files} WHERE source_id = %s AND path = %s", [source, key])


async def missing(
    conn: Connection,
    collection: Collection,
    source: int,
    *,
    prefix: str,
    keys: Sequence[str],
    after: str,
    to: str | None,
) -> list[MissingObject]:
    """Return the recorded objects under *prefix* that are not among *keys*, after *after* up to *to*, by key.

    Both bounds are keys; None for *to* means the end.
    """
    statement = f"""
        SELECT f.path AS key, i.id IS NOT NULL AS adopted, f.removed
          FROM {{files}} AS f LEFT JOIN {{images}} AS i ON i.id = f.image_id
         WHERE f.source_id = %(source)s AND f.path > %(after)s AND f.path >= %(prefix)s
           AND (%(to)s::text IS NULL OR f.path <= %(to)s) AND starts_with(f.path, %(prefix)s)
           AND f.path <> ALL(%(keys)s) AND (i.id IS NULL OR {_ADOPTED})
         ORDER BY f.path
    """  # noqa: S608 - constants
    parameters = {"source": source, "prefix": prefix, "keys": list(keys), "after": after, "to": to}
    return await fetch_all(conn, collection, MissingObject, statement, parameters)


async def list_images(
    conn: Connection,
    collection: Collection,
    source: int,
    *,
    prefix: str,
    after: str,
    only_described: bool,
    limit: int,
) -> list[AdoptedImage]:
    """Return up to *limit* adopted images under *prefix* with keys greater than *after*, by key.

    With *only_described*, return only those whose metadata come from a sidecar too.
    """
    statement = f"""
        SELECT f.path AS key, f.image_id AS id, f.sidecar
          FROM {{files}} AS f JOIN {{images}} AS i ON i.id = f.image_id
         WHERE f.source_id = %(source)s AND f.path > %(after)s AND f.path >= %(prefix)s
           AND starts_with(f.path, %(prefix)s) AND f.reason IS NULL AND {_ADOPTED}
           AND (f.sidecar <> '' OR NOT %(only_described)s)
         ORDER BY f.path LIMIT %(limit)s
    """  # noqa: S608 - a constant
    parameters = {"source": source, "prefix": prefix, "after": after, "only_described": only_described, "limit": limit}
    return await fetch_all(conn, collection, AdoptedImage, statement, parameters)


async def count(conn: Connection, collection: Collection, source: int, *, prefix: str) -> int:
    """Return the number of adopted images under *prefix*; *source* is that of adopted objects."""
    statement = """
        SELECT count(*) FROM {files}
         WHERE source_id = %(source)s AND path >= %(prefix)s AND starts_with(path, %(prefix)s)
           AND image_id IS NOT NULL
    """
    number: int = await fetch_value(conn, collection, statement, {"source": source, "prefix": prefix})
    return number


async def delete_images(conn: Connection, collection: Collection, source: int, keys: Sequence[str]) -> int:
    """Delete the adopted images under *keys* and schedule the deletion of their thumbnails; return their number.

    There is no tombstone: a folder that holds one of them uploads it with its next sync.
    """
    statement = f"""
        SELECT i.id FROM {{files}} AS f JOIN {{images}} AS i ON i.id = f.image_id
         WHERE f.source_id = %(source)s AND f.path = ANY(%(keys)s) AND {_ADOPTED}
    """  # noqa: S608 - constants
    cur = await execute(conn, collection, statement, {"source": source, "keys": list(keys)})
    return await pending_objects.delete_images(
        conn, collection, [row[0] for row in await cur.fetchall()], tombstone=False
    )
