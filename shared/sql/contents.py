"""Lookup of images by content and key, for uploads that may be duplicates."""

from shared.db.pool import Connection
from shared.models import Collection
from shared.sql import execute, fetch_value

# First key of advisory locks on contents; the second is a hash.
_LOCK = 0x1AB02


async def find_image(
    conn: Connection, collection: Collection, sha256: bytes, *, besides: int | None = None
) -> int | None:
    """Return the id of the first image with this content, other than *besides*; None if there is none."""
    statement = "SELECT min(id) FROM {images} WHERE sha256 = %s AND id IS DISTINCT FROM %s"
    image_id: int | None = await fetch_value(conn, collection, statement, [sha256, besides])
    return image_id


async def is_key_taken(conn: Connection, collection: Collection, key: str) -> bool:
    """Return whether an image has this key."""
    cur = await execute(conn, collection, "SELECT FROM {images} WHERE r2_key = %s", [key])
    return cur.rowcount > 0


async def lock(conn: Connection, collection: Collection, sha256: bytes) -> None:
    """Lock this content against other transactions that lock it, until the transaction ends."""
    await conn.execute("SELECT pg_advisory_xact_lock(%s, hashtext(%s))", [_LOCK, f"{collection.base} {sha256.hex()}"])
