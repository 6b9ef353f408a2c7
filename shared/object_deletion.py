"""Removes images: first their rows, then their objects, so that no row ever names an object that is gone."""

import asyncio
import logging
from collections.abc import Sequence

from shared.db.pool import Connection, Database
from shared.errors import ObjectMissing, StoreError
from shared.models import Collection
from shared.sql import pending_objects
from shared.sql.pending_objects import PendingDeletion
from shared.stores.base import ObjectStore, object_sha256

log = logging.getLogger(__name__)

BATCH = 1000  # objects, as many as S3 deletes with one request


async def delete_images(
    database: Database, store: ObjectStore, collection: Collection, ids: Sequence[int], *, tombstone: bool
) -> int:
    """Remove images with their vectors, thumbnails and objects; return how many of *ids* there were.

    With *tombstone* their content does not come back with the next sync of the folders that hold it; without it, those
    folders' syncs forget that they ever saw the files. When the store cannot be reached, the images are removed all
    the same, and their objects by whoever empties the trash next.
    """
    removed = await database.run(pending_objects.delete_images, collection=collection, ids=ids, tombstone=tombstone)
    try:
        await delete_pending_objects(database, store, collection)
    except StoreError as exc:
        log.warning("%d images were removed; their objects will be with the next sync: %s", removed, exc)
    return removed


async def delete_pending_objects(database: Database, store: ObjectStore, collection: Collection) -> int:
    """Delete the objects that no image names any more; return how many.

    Where an upload that ended in the middle may have stored over another image's object, the object is looked at.
    Raises StoreError when the store refuses or cannot be reached; what is left stays noted.
    """
    deleted = 0
    while (some := await database.run(_delete_some, store, collection)) is not None:
        deleted += some
    await database.run(_settle_doubts, store, collection)
    return deleted


async def _delete_some(conn: Connection, store: ObjectStore, collection: Collection) -> int | None:
    due = await pending_objects.lock_due(conn, collection, limit=BATCH)
    if not due:
        return None
    ours = await asyncio.gather(*(_is_ours(store, each) for each in due if not each.named))
    keys = [key for key in ours if key is not None]
    await store.delete(keys)
    await pending_objects.forget(conn, collection, [each.key for each in due])
    return len(keys)


async def _settle_doubts(conn: Connection, store: ObjectStore, collection: Collection) -> None:
    doubts = await pending_objects.lock_doubts(conn, collection, limit=BATCH)
    held = await asyncio.gather(*(_held(store, key) for key, _ in doubts))
    right = [key for (key, content), found in zip(doubts, held, strict=True) if found == content.hex()]
    await pending_objects.forget(conn, collection, right)


async def _is_ours(store: ObjectStore, due: PendingDeletion) -> str | None:
    """Return the key of an object that is ours to delete; None where an upload that failed found somebody else's."""
    if due.derived or due.stored:
        return due.key
    held = await _held(store, due.key)
    return due.key if held in {content.hex() for content in due.contents} else None


async def _held(store: ObjectStore, key: str) -> str | None:
    try:
        return await object_sha256(store, await store.head(key))
    except ObjectMissing:
        return None
