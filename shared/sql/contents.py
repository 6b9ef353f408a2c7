"""Which content the images have: asked when one is taken in that may be there already."""

from typing import Any

from psycopg import AsyncConnection

from shared.models import Collection
from shared.sql import for_collection

# Advisory locks have one number or two. We use those of two for contents: this one, and a hash.
_LOCK = 0x1AB02


async def holder(
    conn: AsyncConnection[Any], collection: Collection, sha256: bytes, *, besides: int | None = None
) -> int | None:
    """Return the id of the first image that has this content, not counting *besides*; None when there is none."""
    cur = await conn.execute(
        for_collection("SELECT min(id) FROM {images} WHERE sha256 = %s AND id IS DISTINCT FROM %s", collection),
        [sha256, besides],
    )
    row = await cur.fetchone()
    return row[0] if row else None


async def is_taken(conn: AsyncConnection[Any], collection: Collection, key: str) -> bool:
    """Whether there is an image under *key*."""
    cur = await conn.execute(for_collection("SELECT FROM {images} WHERE r2_key = %s", collection), [key])
    return await cur.fetchone() is not None


async def is_new(conn: AsyncConnection[Any], collection: Collection, image_id: int) -> bool:
    """Whether it was this transaction that made the image."""
    cur = await conn.execute(
        for_collection("SELECT xmin = pg_current_xact_id()::xid FROM {images} WHERE id = %s", collection), [image_id]
    )
    return await cur.fetchone() == (True,)


async def lock(conn: AsyncConnection[Any], collection: Collection, sha256: bytes) -> None:
    """Wait for other transactions that lock this content, and make further ones wait for the end of ours."""
    await conn.execute("SELECT pg_advisory_xact_lock(%s, hashtext(%s))", [_LOCK, f"{collection.base} {sha256.hex()}"])
