"""The files that syncs have seen, and what became of each."""

from datetime import datetime
from typing import Any

from psycopg import AsyncConnection
from psycopg.rows import class_row

from shared.errors import ImageRefused
from shared.model import Collection, KnownFile
from shared.sql import for_collection


async def after(
    conn: AsyncConnection[Any], collection: Collection, source: int, path: str, *, limit: int
) -> list[KnownFile]:
    """Return what is known of the source's files behind *path*, by path in byte order, at most *limit* of them."""
    async with conn.cursor(row_factory=class_row(KnownFile)) as cur:
        await cur.execute(
            for_collection(
                """
                SELECT path, size, mtime_ns, ctime_ns, sha256, image_id, removed, reason
                  FROM {files} WHERE source_id = %(source)s AND path > %(path)s ORDER BY path LIMIT %(limit)s
                """,
                collection,
            ),
            {"source": source, "path": path, "limit": limit},
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
    """Remember the file with its (size, mtime_ns, ctime_ns), and that it became *image_id* or why it did not.

    A file that was an image and cannot be read any more keeps the image that it was: a failure is no deletion.
    """
    await conn.execute(
        for_collection(
            """
            INSERT INTO {files} AS known (
                source_id, path, size, mtime_ns, ctime_ns, sha256, image_id, reason, detail, attempts, seen_at)
            VALUES (
                %(source)s, %(path)s, %(size)s, %(mtime_ns)s, %(ctime_ns)s, %(sha256)s, %(image_id)s, %(reason)s,
                %(detail)s, %(attempts)s, %(now)s)
            ON CONFLICT (source_id, path) DO UPDATE SET
                size = excluded.size, mtime_ns = excluded.mtime_ns, ctime_ns = excluded.ctime_ns,
                sha256 = excluded.sha256, image_id = coalesce(excluded.image_id, known.image_id),
                reason = excluded.reason, detail = excluded.detail, attempts = known.attempts + excluded.attempts,
                seen_at = excluded.seen_at, removed = false
            """,
            collection,
        ),
        {
            "source": source,
            "path": path,
            "size": stat[0],
            "mtime_ns": stat[1],
            "ctime_ns": stat[2],
            "sha256": sha256,
            "image_id": image_id,
            "reason": refusal.reason if refusal else None,
            "detail": refusal.detail[:1000] if refusal else None,
            "attempts": 1 if refusal else 0,
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
