"""Store and list objects."""

import hashlib
from pathlib import Path

from shared.stores.base import CACHE_IMAGE, ObjectStore
from shared.stores.folder import FolderStore
from shared.stores.s3 import S3Store


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


def put_externally(store: ObjectStore, key: str, body: bytes) -> None:
    """Put an object without the metadata of this program."""
    if isinstance(store, FolderStore):
        path = store._folder / key
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(body)
    else:
        assert isinstance(store, S3Store)
        store._client.put_object(Bucket=store.bucket, Key=key, Body=body)


async def list_keys(store: ObjectStore, prefix: str = "", *, start_after: str = "") -> list[str]:
    return [stored.key async for stored in store.list(prefix, start_after=start_after)]
