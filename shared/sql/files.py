"""Files that syncs have seen, what became of each, and tombstones of deleted content.

A tombstone says that an image with this content was deleted through the API. A sync of the same source does not upload
the content again while the folder holds it.
"""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

from shared.db.pool import Connection
from shared.errors import ImageRefused
from shared.models import Collection, KnownFile
from shared.sql import execute, fetch_all, fetch_value, pending_objects

FileTimes = tuple[int, int, int]  # size, mtime_ns, ctime_ns

# An image that came from a folder and that no other folder holds. Only such an image may be moved or deleted by a sync.
_OWN = """(i.origin = 'folder'
    AND NOT EXISTS (SELECT FROM {files} AS other WHERE other.image_id = i.id AND other.source_id <> %(source)s))"""


@dataclass(frozen=True)
class MovableImage:
    """An image of the source with the file that it came from, as the last sync saw it."""

    image_id: int
    key: str
    sha256: bytes
    path: str
    size: int
    mtime_ns: int
    ctime_ns: int

    @property
    def stat(self) -> FileTimes:
        return self.size, self.mtime_ns, self.ctime_ns


@dataclass(frozen=True)
class Matches:
    """Database state that decides about changed files.

    ``movable`` has the source's own images by content, ``tombstones`` the deleted contents, ``key_owners`` the image
    under each key.
    """

    movable: dict[bytes, list[MovableImage]]
    tombstones: frozenset[bytes]
    key_owners: dict[str, int]


@dataclass(frozen=True)
class FileRecord:
    """A file of a source with the image that it became, or with the reason why it was rejected."""

    source: int
    path: str
    stat: FileTimes
    sha256: bytes | None = None
    image_id: int | None = None
    refusal: ImageRefused | None = None

    def columns(self) -> Sequence[object]:
        reason, detail = (self.refusal.reason, self.refusal.detail[:1000]) if self.refusal else (None, None)
        return self.source, self.path, *self.stat, self.sha256, self.image_id, reason, detail


@dataclass(frozen=True)
class MissingFile:
    """A recorded file that the folder no longer holds; ``own`` tells whether its image may be deleted with it."""

    path: str
    image_id: int | None
    removed: bool
    own: bool


async def list_known(
    conn: Connection, collection: Collection, source: int, *, after: str, limit: int, at: str = ""
) -> list[KnownFile]:
    """Return up to *limit* files of the source with paths greater than *after*, in byte order of their paths.

    With *at*, return only the file at that path and the files below it.
    """
    statement = """
        SELECT path, size, mtime_ns, ctime_ns, sidecar, sha256, image_id, removed, reason
          FROM {files}
         WHERE source_id = %(source)s AND path > %(after)s
           -- "0" is the successor of "/".
           AND (%(at)s = '' OR path = %(at)s OR path > %(at)s || '/' AND path < %(at)s || '0')
         ORDER BY path LIMIT %(limit)s
    """
    parameters = {"source": source, "after": after, "limit": limit, "at": at}
    return await fetch_all(conn, collection, KnownFile, statement, parameters)


async def record(
    conn: Connection,
    collection: Collection,
    source: int,
    path: str,
    *,
    stat: FileTimes,
    sha256: bytes | None = None,
    image_id: int | None = None,
    refusal: ImageRefused | None = None,
) -> None:
    """Record a file with the image that it became, or with the reason why it was rejected.

    A rejected file keeps the image or the deletion that was recorded before: a read error is neither a deletion nor
    an edit.
    """
    await record_many(conn, collection, [FileRecord(source, path, stat, sha256, image_id, refusal)])


async def record_many(conn: Connection, collection: Collection, records: Sequence[FileRecord]) -> None:
    """Record different files like ``record``."""
    statement = """
        INSERT INTO {files} AS existing (
            source_id, path, size, mtime_ns, ctime_ns, sha256, image_id, reason, detail, attempts, seen_at)
        SELECT *, (reason IS NOT NULL)::int, now()
          FROM unnest(%s::int[], %s::text[], %s::bigint[], %s::bigint[], %s::bigint[], %s::bytea[], %s::bigint[],
                      %s::text[], %s::text[])
            AS record (source, path, size, mtime_ns, ctime_ns, sha256, image_id, reason, detail)
        ON CONFLICT (source_id, path) DO UPDATE SET
            size = excluded.size, mtime_ns = excluded.mtime_ns, ctime_ns = excluded.ctime_ns,
            sha256 = coalesce(excluded.sha256, existing.sha256),
            image_id = coalesce(excluded.image_id, existing.image_id),
            reason = excluded.reason, detail = excluded.detail, attempts = existing.attempts + excluded.attempts,
            seen_at = excluded.seen_at, removed = existing.removed AND excluded.image_id IS NULL
    """
    columns = zip(*(record.columns() for record in records), strict=True)
    await execute(conn, collection, statement, [list(column) for column in columns])


async def touch(
    conn: Connection, collection: Collection, source: int, path: str, *, stat: FileTimes, sidecar: str | None = None
) -> None:
    """Record new times of a file with unchanged content, and the state of the *sidecar* whose metadata it has."""
    statement = """
        UPDATE {files}
           SET size = %s, mtime_ns = %s, ctime_ns = %s, sidecar = coalesce(%s, sidecar), reason = NULL, detail = NULL,
               seen_at = now()
         WHERE source_id = %s AND path = %s
    """
    await execute(conn, collection, statement, [*stat, sidecar, source, path])


async def record_sidecar(conn: Connection, collection: Collection, source: int, path: str, *, state: str) -> None:
    """Record the state of the sidecar whose metadata the file's image has."""
    await execute(
        conn, collection, "UPDATE {files} SET sidecar = %s WHERE source_id = %s AND path = %s", [state, source, path]
    )


async def keep_removed(
    conn: Connection, collection: Collection, source: int, path: str, *, stat: FileTimes, sha256: bytes
) -> None:
    """Record that the file has deleted content and gets no image; delete the image that it had."""
    await _delete_own_image(conn, collection, source, path)
    statement = """
        INSERT INTO {files} (source_id, path, size, mtime_ns, ctime_ns, sha256, removed, seen_at)
        VALUES (%s, %s, %s, %s, %s, %s, true, now())
    """
    await execute(conn, collection, statement, [source, path, *stat, sha256])


async def move(
    conn: Connection, collection: Collection, source: int, image: MovableImage, *, path: str, stat: FileTimes
) -> bool:
    """Rename the image, whose object was copied, to the key *path*; delete the image that the file had before.

    Return False and change nothing if the image is no longer what it was.
    """
    parameters = {"source": source, "image": image.image_id, "key": image.key, "sha256": image.sha256}
    statement = f"""
        SELECT FROM {{images}} AS i JOIN {{files}} AS f ON f.image_id = i.id AND f.source_id = %(source)s
         WHERE i.id = %(image)s AND i.r2_key = %(key)s AND i.sha256 = %(sha256)s AND f.sha256 = i.sha256 AND {_OWN}
           FOR UPDATE OF i
    """
    unchanged = await execute(conn, collection, statement, parameters)
    if not unchanged.rowcount:
        return False
    await _delete_own_image(conn, collection, source, path)
    await execute(conn, collection, "UPDATE {images} SET r2_key = %s WHERE id = %s", [path, image.image_id])
    statement = """
        UPDATE {files} SET path = %s, size = %s, mtime_ns = %s, ctime_ns = %s, reason = NULL, detail = NULL,
               seen_at = now()
         WHERE source_id = %s AND image_id = %s
    """
    await execute(conn, collection, statement, [path, *stat, source, image.image_id])
    await pending_objects.schedule_deletion(conn, collection, [(image.key, image.sha256)])
    return True


async def _delete_own_image(conn: Connection, collection: Collection, source: int, path: str) -> None:
    """Delete the file's row, and its image unless that belongs to others too."""
    statement = f"""
        SELECT i.id FROM {{files}} AS f JOIN {{images}} AS i ON i.id = f.image_id
         WHERE f.source_id = %(source)s AND f.path = %(path)s AND {_OWN}
    """  # noqa: S608 - constants
    own = await execute(conn, collection, statement, {"source": source, "path": path})
    ids = [image_id for (image_id,) in await own.fetchall()]
    if ids:
        await pending_objects.delete_images(conn, collection, ids, tombstone=False)
    await forget(conn, collection, source, [path])


async def is_first_sync(conn: Connection, collection: Collection, source: int) -> bool:
    """Return whether the source has neither files nor tombstones."""
    statement = """
        SELECT NOT EXISTS (SELECT FROM {files} WHERE source_id = %(source)s)
           AND NOT EXISTS (SELECT FROM tombstones WHERE source_id = %(source)s)
    """
    return bool(await fetch_value(conn, collection, statement, {"source": source}))


async def count_images(conn: Connection, collection: Collection, source: int) -> int:
    """Return how many files of the source have an image."""
    statement = "SELECT count(*) FROM {files} WHERE source_id = %s AND image_id IS NOT NULL"
    number: int = await fetch_value(conn, collection, statement, [source])
    return number


async def find_matches(
    conn: Connection, collection: Collection, source: int, *, contents: Sequence[bytes], keys: Sequence[str]
) -> Matches:
    """Return the images and tombstones with these contents, and the owners of these keys."""
    # The object of an image whose file has no hash may have other content: an overwrite was interrupted.
    statement = f"""
        SELECT found.* FROM unnest(%(contents)s::bytea[]) AS given (sha256) CROSS JOIN LATERAL (
            SELECT i.id AS image_id, i.r2_key AS key, i.sha256, f.path, f.size, f.mtime_ns, f.ctime_ns
              FROM {{images}} AS i JOIN {{files}} AS f ON f.image_id = i.id AND f.source_id = %(source)s
             WHERE i.sha256 = given.sha256 AND f.sha256 = i.sha256 AND {_OWN}
             ORDER BY i.id LIMIT 100) AS found
    """  # noqa: S608 - a constant
    parameters = {"source": source, "contents": list(set(contents))}
    found = await fetch_all(conn, collection, MovableImage, statement, parameters)
    movable = defaultdict(list)
    for image in found:
        movable[image.sha256].append(image)
    owners = await execute(conn, collection, "SELECT r2_key, id FROM {images} WHERE r2_key = ANY(%s)", [list(keys)])
    return Matches(dict(movable), await tombstones(conn, source, contents), dict(await owners.fetchall()))


async def find_missing(
    conn: Connection, collection: Collection, source: int, paths: Sequence[str]
) -> list[MissingFile]:
    """Return the records of files that the folder no longer holds."""
    statement = f"""
        SELECT f.path, f.image_id, f.removed, i.id IS NOT NULL AND {_OWN} AS own
          FROM {{files}} AS f LEFT JOIN {{images}} AS i ON i.id = f.image_id
         WHERE f.source_id = %(source)s AND f.path = ANY(%(paths)s)
         ORDER BY f.path
    """  # noqa: S608 - constants
    return await fetch_all(conn, collection, MissingFile, statement, {"source": source, "paths": list(paths)})


async def forget(conn: Connection, collection: Collection, source: int, paths: Sequence[str]) -> None:
    """Delete the records of these files; their images stay."""
    statement = "DELETE FROM {files} WHERE source_id = %s AND path = ANY(%s)"
    await execute(conn, collection, statement, [source, list(paths)])


async def delete_missing(conn: Connection, collection: Collection, source: int, paths: Sequence[str]) -> int:
    """Delete the images of missing files, except those that no longer belong to the source alone; return how many."""
    missing = await find_missing(conn, collection, source, paths)
    ids = [row.image_id for row in missing if row.own and row.image_id is not None]
    return await pending_objects.delete_images(conn, collection, ids, tombstone=False)


async def tombstones(conn: Connection, source: int, contents: Sequence[bytes]) -> frozenset[bytes]:
    """Return which of these contents the source has tombstones of."""
    statement = "SELECT sha256 FROM tombstones WHERE source_id = %s AND sha256 = ANY(%s)"
    cur = await conn.execute(statement, [source, list(contents)])
    return frozenset(sha256 for (sha256,) in await cur.fetchall())


async def prune_tombstones(conn: Connection, collection: Collection, source: int) -> None:
    """Delete the tombstones of content that no file of the source holds any more."""
    statement = """
        DELETE FROM tombstones AS t
         WHERE source_id = %s
           AND NOT EXISTS (SELECT FROM {files} AS f
                            WHERE f.source_id = t.source_id AND f.sha256 = t.sha256 AND f.removed)
    """
    await execute(conn, collection, statement, [source])
