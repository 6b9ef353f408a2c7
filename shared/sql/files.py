"""The files that syncs have seen, and what became of each."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from psycopg import AsyncConnection
from psycopg.rows import class_row

from shared.errors import ImageRefused
from shared.models import Collection, KnownFile, NewImage
from shared.sql import for_collection, pending_objects

# Of an image that came from a folder, and that no other folder holds: what that folder's sync may move and remove.
_OWN = """(i.origin = 'folder'
    AND NOT EXISTS (SELECT FROM {files} AS other WHERE other.image_id = i.id AND other.source_id <> %(source)s))"""

# Of a content whose image was removed through the API, and of which the source holds no other image.
_REMOVED = """(EXISTS (SELECT FROM {files} WHERE source_id = %(source)s AND sha256 = %(sha256)s AND removed)
    AND NOT EXISTS (SELECT FROM {images} AS i JOIN {files} AS f ON f.image_id = i.id
                     WHERE i.sha256 = %(sha256)s AND f.source_id = %(source)s))"""


@dataclass(frozen=True)
class Copy:
    """An image that has the content in question.

    ``path`` is where the source holds it, with the file's ``stat`` (size, mtime_ns, ctime_ns) when it was last seen;
    None where the source does not. ``movable`` says that it is the source's own, and surely as its row says.
    """

    image_id: int
    key: str
    sha256: bytes
    path: str | None
    size: int
    mtime_ns: int
    ctime_ns: int
    movable: bool

    @property
    def stat(self) -> tuple[int, int, int]:
        return self.size, self.mtime_ns, self.ctime_ns


@dataclass(frozen=True)
class Tombstone:
    """The source's file *path*, with its ``stat`` when it was last seen, whose image was removed through the API."""

    path: str
    sha256: bytes
    stat: tuple[int, int, int]


@dataclass(frozen=True)
class Content:
    """What is known of a content, as far as a file that has it now is concerned.

    ``removed`` says that an image of it was removed through the API, and that the source holds no other; where it does
    hold one, ``marks`` are the other files whose image was removed. ``taken`` says that the file's key is that of an
    image which is not the file's own.
    """

    copies: list[Copy]
    removed: bool
    marks: list[Tombstone]
    taken: bool


@dataclass(frozen=True)
class MissingFile:
    """A known file that is not in its folder any more; ``own`` says that its image may go with it."""

    path: str
    image_id: int | None
    removed: bool
    own: bool


@dataclass(frozen=True)
class Seen:
    """A file with its (size, mtime_ns, ctime_ns), and the image that it became, or why it became none."""

    path: str
    stat: tuple[int, int, int]
    sha256: bytes | None
    image_id: int | None
    refusal: ImageRefused | None = None


async def after(
    conn: AsyncConnection[Any], collection: Collection, source: int, path: str, *, limit: int, at: str = ""
) -> list[KnownFile]:
    """Return what is known of the source's files behind *path*, by path in byte order, at most *limit* of them.

    With *at*, only of the file of that path and of what lies below the folder of that path.
    """
    async with conn.cursor(row_factory=class_row(KnownFile)) as cur:
        await cur.execute(
            for_collection(
                """
                SELECT path, size, mtime_ns, ctime_ns, sha256, image_id, removed, reason
                  FROM {files}
                 WHERE source_id = %(source)s AND path > %(path)s
                   -- "0" comes right behind "/".
                   AND (%(at)s = '' OR path = %(at)s OR path > %(at)s || '/' AND path < %(at)s || '0')
                 ORDER BY path LIMIT %(limit)s
                """,
                collection,
            ),
            {"source": source, "path": path, "limit": limit, "at": at},
        )
        return await cur.fetchall()


async def record(
    conn: AsyncConnection[Any],
    collection: Collection,
    source: int,
    path: str,
    *,
    stat: tuple[int, int, int],
    sha256: bytes | None,
    image_id: int | None,
    now: datetime,
    refusal: ImageRefused | None = None,
) -> None:
    """Remember one file, as ``record_many`` does."""
    await record_many(conn, collection, source, [Seen(path, stat, sha256, image_id, refusal)], now=now)


async def record_many(
    conn: AsyncConnection[Any], collection: Collection, source: int, seen: Sequence[Seen], *, now: datetime
) -> None:
    """Remember files of the source, all different, and what became of them.

    A file that was an image and cannot be read any more keeps the image that it was, and one whose image was removed
    stays removed: a failure is no deletion, and no edit.
    """
    await conn.execute(
        for_collection(
            """
            INSERT INTO {files} AS known (
                source_id, path, size, mtime_ns, ctime_ns, sha256, image_id, reason, detail, attempts, seen_at)
            SELECT %(source)s, path, size, mtime_ns, ctime_ns, sha256, image_id, reason, detail,
                   (reason IS NOT NULL)::integer, %(now)s
              FROM unnest(
                %(paths)s::text[], %(sizes)s::bigint[], %(mtimes)s::bigint[], %(ctimes)s::bigint[],
                %(contents)s::bytea[], %(images)s::bigint[], %(reasons)s::text[], %(details)s::text[])
                AS seen (path, size, mtime_ns, ctime_ns, sha256, image_id, reason, detail)
             ORDER BY path COLLATE "C"
            ON CONFLICT (source_id, path) DO UPDATE SET
                size = excluded.size, mtime_ns = excluded.mtime_ns, ctime_ns = excluded.ctime_ns,
                sha256 = coalesce(excluded.sha256, known.sha256),
                image_id = coalesce(excluded.image_id, known.image_id),
                reason = excluded.reason, detail = excluded.detail, attempts = known.attempts + excluded.attempts,
                seen_at = excluded.seen_at, removed = known.removed AND excluded.image_id IS NULL
            """,
            collection,
        ),
        {
            "source": source,
            "paths": [each.path for each in seen],
            "sizes": [each.stat[0] for each in seen],
            "mtimes": [each.stat[1] for each in seen],
            "ctimes": [each.stat[2] for each in seen],
            "contents": [each.sha256 for each in seen],
            "images": [each.image_id for each in seen],
            "reasons": [each.refusal and each.refusal.reason for each in seen],
            "details": [each.refusal and each.refusal.detail[:1000] for each in seen],
            "now": now,
        },
    )


async def touch(
    conn: AsyncConnection[Any],
    collection: Collection,
    source: int,
    path: str,
    *,
    stat: tuple[int, int, int],
    now: datetime,
) -> None:
    """Remember new times of a file whose content is as it was."""
    await conn.execute(
        for_collection(
            """
            UPDATE {files} SET size = %s, mtime_ns = %s, ctime_ns = %s, reason = NULL, detail = NULL, seen_at = %s
             WHERE source_id = %s AND path = %s
            """,
            collection,
        ),
        [*stat, now, source, path],
    )


async def knows_any(conn: AsyncConnection[Any], collection: Collection, source: int) -> bool:
    """Whether anything is known of the source."""
    cur = await conn.execute(
        for_collection("SELECT EXISTS (SELECT FROM {files} WHERE source_id = %s)", collection), [source]
    )
    return await cur.fetchone() == (True,)


async def count_images(conn: AsyncConnection[Any], collection: Collection, source: int) -> int:
    """Return how many of the source's files are images."""
    cur = await conn.execute(
        for_collection("SELECT count(*) FROM {files} WHERE source_id = %s AND image_id IS NOT NULL", collection),
        [source],
    )
    row = await cur.fetchone()
    assert row is not None
    return int(row[0])


async def is_doubtful(conn: AsyncConnection[Any], collection: Collection, key: str) -> bool:
    """Whether an upload to *key* ended in the middle: then its object may not be what its row says."""
    cur = await conn.execute(
        for_collection("SELECT EXISTS (SELECT FROM {pending_objects} WHERE key = %s)", collection), [key]
    )
    return await cur.fetchone() == (True,)


async def content(
    conn: AsyncConnection[Any],
    collection: Collection,
    source: int,
    sha256: bytes,
    *,
    path: str,
    image_id: int | None,
) -> Content:
    """Return what is known of the content that the source's file *path*, which was *image_id* so far, has now."""
    parameters = {"source": source, "sha256": sha256, "path": path, "image": image_id}
    async with conn.cursor(row_factory=class_row(Copy)) as cur:
        await cur.execute(
            for_collection(
                f"""
                SELECT i.id AS image_id, i.r2_key AS key, i.sha256, f.path, i.size,
                       coalesce(f.mtime_ns, 0) AS mtime_ns, coalesce(f.ctime_ns, 0) AS ctime_ns,
                       f.path IS NOT NULL AND {_OWN}
                       AND NOT EXISTS (SELECT FROM {{pending_objects}} AS t WHERE t.key = i.r2_key) AS movable
                  FROM {{images}} AS i LEFT JOIN {{files}} AS f ON f.image_id = i.id AND f.source_id = %(source)s
                 WHERE i.sha256 = %(sha256)s AND f.path IS DISTINCT FROM %(path)s
                 ORDER BY movable DESC, i.id LIMIT 100
                """,  # noqa: S608 - a constant
                collection,
            ),
            parameters,
        )
        copies = await cur.fetchall()
    asked = await conn.execute(
        for_collection(
            f"""
            SELECT {_REMOVED},
                   EXISTS (SELECT FROM {{images}} WHERE r2_key = %(path)s AND id IS DISTINCT FROM %(image)s)
            """,  # noqa: S608 - a constant
            collection,
        ),
        parameters,
    )
    row = await asked.fetchone()
    assert row is not None
    marks = await _marks(conn, collection, source, sha256, path) if copies and not row[0] else []
    return Content(copies, removed=row[0], marks=marks, taken=row[1])


async def _marks(
    conn: AsyncConnection[Any], collection: Collection, source: int, sha256: bytes, path: str
) -> list[Tombstone]:
    cur = await conn.execute(
        for_collection(
            """
            SELECT path, size, mtime_ns, ctime_ns FROM {files}
             WHERE source_id = %s AND sha256 = %s AND removed AND path <> %s ORDER BY path LIMIT 100
            """,
            collection,
        ),
        [source, sha256, path],
    )
    return [Tombstone(marked, sha256, (size, mtime, ctime)) for marked, size, mtime, ctime in await cur.fetchall()]


async def is_removed(conn: AsyncConnection[Any], collection: Collection, source: int, sha256: bytes) -> bool:
    """Whether an image of that content was removed through the API, and the source holds no other."""
    cur = await conn.execute(
        for_collection(f"SELECT {_REMOVED}", collection),
        {"source": source, "sha256": sha256},
    )
    return await cur.fetchone() == (True,)


async def described(conn: AsyncConnection[Any], collection: Collection, sha256: bytes, key: str) -> NewImage | None:
    """Return an image of that content under another *key*, as a folder brings it; None where there is none."""
    async with conn.cursor(row_factory=class_row(NewImage)) as cur:
        await cur.execute(
            for_collection(
                """
                SELECT %s AS key, sha256, size, content_type, width, height, 'folder' AS origin, placeholder,
                       derivatives, truncated, taken_at, camera, lens, keywords, caption, latitude, longitude, exif
                  FROM {images} WHERE sha256 = %s ORDER BY derivatives DESC LIMIT 1
                """,
                collection,
            ),
            [key, sha256],
        )
        return await cur.fetchone()


async def move(
    conn: AsyncConnection[Any],
    collection: Collection,
    source: int,
    copy: Copy,
    *,
    path: str,
    stat: tuple[int, int, int],
    now: datetime,
) -> bool:
    """Make the image, whose object was copied to the key *path*, that of the file *path*; its old key is to go.

    What the file was before is removed. False, with nothing changed, when the image is not what it was any more.
    """
    parameters = {
        **{"source": source, "image": copy.image_id, "key": copy.key, "sha256": copy.sha256, "path": path, "now": now},
        **{"size": stat[0], "mtime_ns": stat[1], "ctime_ns": stat[2]},
    }
    same = await conn.execute(
        for_collection(
            f"""
            SELECT FROM {{images}} AS i
             WHERE i.id = %(image)s AND i.r2_key = %(key)s AND i.sha256 = %(sha256)s AND {_OWN}
               AND NOT EXISTS (SELECT FROM {{pending_objects}} AS t WHERE t.key = i.r2_key)
               FOR UPDATE
            """,  # noqa: S608 - a constant
            collection,
        ),
        parameters,
    )
    if not same.rowcount:
        return False
    before = await conn.execute(
        for_collection(
            "SELECT image_id FROM {files} WHERE source_id = %(source)s AND path = %(path)s AND image_id IS NOT NULL",
            collection,
        ),
        parameters,
    )
    await pending_objects.delete_images(conn, collection, [row[0] for row in await before.fetchall()], tombstone=False)
    await conn.execute(
        for_collection("DELETE FROM {files} WHERE source_id = %(source)s AND path = %(path)s", collection), parameters
    )
    await conn.execute(
        for_collection("UPDATE {images} SET r2_key = %(path)s WHERE id = %(image)s", collection), parameters
    )
    await conn.execute(
        for_collection(
            """
            UPDATE {files} SET path = %(path)s, size = %(size)s, mtime_ns = %(mtime_ns)s, ctime_ns = %(ctime_ns)s,
                   sha256 = %(sha256)s, reason = NULL, detail = NULL, seen_at = %(now)s
             WHERE source_id = %(source)s AND image_id = %(image)s
            """,
            collection,
        ),
        parameters,
    )
    await pending_objects.schedule_deletion(conn, collection, [(copy.key, copy.sha256)])
    return True


async def in_the_way(
    conn: AsyncConnection[Any], collection: Collection, source: int, paths: Sequence[str]
) -> list[Copy]:
    """Return the images of these files of the source that are its own, each with the content that it had so far."""
    async with conn.cursor(row_factory=class_row(Copy)) as cur:
        await cur.execute(
            for_collection(
                f"""
                SELECT i.id AS image_id, i.r2_key AS key, i.sha256, f.path, f.size, f.mtime_ns, f.ctime_ns,
                       true AS movable
                  FROM {{files}} AS f JOIN {{images}} AS i ON i.id = f.image_id
                 WHERE f.source_id = %(source)s AND f.path = ANY(%(paths)s) AND {_OWN}
                   AND NOT EXISTS (SELECT FROM {{pending_objects}} AS t WHERE t.key = i.r2_key)
                """,  # noqa: S608 - a constant
                collection,
            ),
            {"source": source, "paths": list(paths)},
        )
        return await cur.fetchall()


async def keep_removed(
    conn: AsyncConnection[Any], collection: Collection, source: int, paths: Sequence[str], *, under: str
) -> None:
    """Remember of the contents that files at *paths* had until now, and whose images were removed, that they were, by
    paths that begin with *under*.
    """
    await conn.execute(
        for_collection(
            """
            INSERT INTO {files} (source_id, path, size, mtime_ns, ctime_ns, sha256, removed, seen_at)
            SELECT source_id, %(under)s || encode(sha256, 'hex'), size, mtime_ns, ctime_ns, sha256, true, seen_at
              FROM {files}
             WHERE source_id = %(source)s AND path = ANY(%(paths)s) AND removed
            ON CONFLICT DO NOTHING
            """,
            collection,
        ),
        {"source": source, "paths": list(paths), "under": under},
    )


async def record_removed(
    conn: AsyncConnection[Any],
    collection: Collection,
    source: int,
    path: str,
    *,
    stat: tuple[int, int, int],
    sha256: bytes,
    now: datetime,
) -> None:
    """Remember that the file has content which was removed through the API; what it was before is removed."""
    before = await conn.execute(
        for_collection(
            f"""
            SELECT i.id FROM {{files}} AS f JOIN {{images}} AS i ON i.id = f.image_id
             WHERE f.source_id = %(source)s AND f.path = %(path)s AND {_OWN}
            """,  # noqa: S608 - a constant
            collection,
        ),
        {"source": source, "path": path},
    )
    await pending_objects.delete_images(conn, collection, [row[0] for row in await before.fetchall()], tombstone=False)
    await conn.execute(
        for_collection("DELETE FROM {files} WHERE source_id = %s AND path = %s", collection), [source, path]
    )
    await conn.execute(
        for_collection(
            """
            INSERT INTO {files} (source_id, path, size, mtime_ns, ctime_ns, sha256, removed, seen_at)
            VALUES (%s, %s, %s, %s, %s, %s, true, %s)
            """,
            collection,
        ),
        [source, path, *stat, sha256, now],
    )


async def unmark(conn: AsyncConnection[Any], collection: Collection, source: int, mark: Tombstone) -> bool:
    """Forget the file; False when it is not what it was any more."""
    done = await conn.execute(
        for_collection(
            "DELETE FROM {files} WHERE source_id = %s AND path = %s AND sha256 = %s AND removed", collection
        ),
        [source, mark.path, mark.sha256],
    )
    return done.rowcount > 0


async def gone(
    conn: AsyncConnection[Any], collection: Collection, source: int, paths: Sequence[str]
) -> list[MissingFile]:
    """Return what is known of these files of the source, which are not in its folder any more."""
    async with conn.cursor(row_factory=class_row(MissingFile)) as cur:
        await cur.execute(
            for_collection(
                f"""
                SELECT f.path, f.image_id, f.removed, i.id IS NOT NULL AND {_OWN} AS own
                  FROM {{files}} AS f LEFT JOIN {{images}} AS i ON i.id = f.image_id
                 WHERE f.source_id = %(source)s AND f.path = ANY(%(paths)s)
                 ORDER BY f.path
                """,  # noqa: S608 - a constant
                collection,
            ),
            {"source": source, "paths": list(paths)},
        )
        return await cur.fetchall()


async def forget(conn: AsyncConnection[Any], collection: Collection, source: int, paths: Sequence[str]) -> None:
    """Forget these files; images that they became stay."""
    await conn.execute(
        for_collection("DELETE FROM {files} WHERE source_id = %s AND path = ANY(%s)", collection),
        [source, list(paths)],
    )
