"""Storing and listing objects in tests of stores."""

import hashlib
from pathlib import Path

from shared.stores.base import CACHE_IMAGE, ObjectStore


async def put(
    store: ObjectStore, key: str, body: bytes | Path = b"pixels", *, sha256: str = "", overwrite: bool = True
) -> None:
    """Store a JPEG with its hash, or with *sha256* instead."""
    content = body if isinstance(body, bytes) else body.read_bytes()
    await store.put(
        key,
        body,
        content_type="image/jpeg",
        cache_control=CACHE_IMAGE,
        sha256=sha256 or hashlib.sha256(content).hexdigest(),
        overwrite=overwrite,
    )


async def list_keys(store: ObjectStore, prefix: str = "", *, start_after: str = "") -> list[str]:
    return [stored.key async for stored in store.list(prefix, start_after=start_after)]
