"""Deletion of images, and of objects that no image references.

``{pending_objects}`` lists every object that may lie in the bucket without an image that references it:

1. An upload records its intent (its keys, due in an hour) before it stores anything.
2. It stores the objects.
3. One transaction deletes the intent and writes the image's row.

A deletion removes the image's row and lists its objects as due in one transaction. Cleaning up then takes three steps:

1. One transaction claims objects that are due. While a claim lasts, uploads to its keys wait.
2. Those that no image references are deleted from the store; no transaction is open.
3. One transaction deletes their rows.

After ``kill -9`` at any point these hold:

- Every image's row has its object. Only an interrupted overwrite may have left other content under the key. Then the
  file has lost its stored hash, and the next sync uploads it again.
- Every other object of ours is listed. After an interrupted upload it is due when the source's next sync begins, or
  after an hour. After an interrupted clean-up it can be claimed again when the claim expires.
- Objects of others are never deleted. If an upload was interrupted before it certainly stored its object, the object
  is deleted only if its hash is that of the upload.
"""

import asyncio
import logging
from collections.abc import Sequence
from contextlib import suppress
from datetime import timedelta
from uuid import uuid4

from shared.db.pool import Database
from shared.errors import DatabaseError, ObjectMissing, StoreError
from shared.models import Collection
from shared.sql import pending_objects
from shared.sql.pending_objects import PendingDeletion
from shared.stores.base import ObjectStore, object_sha256

log = logging.getLogger(__name__)

BATCH = 1000  # objects: S3 deletes as many with one request
# A claim must outlast the store's requests, or a late delete could hit a new object. Hashes may take CHECK_TIMEOUT;
# the request to delete is retried for at most 45 seconds.
CLAIM_TIME = timedelta(minutes=2)
CHECK_TIMEOUT = 30.0  # seconds


async def delete_images(
    database: Database, store: ObjectStore, collection: Collection, ids: Sequence[int], *, tombstone: bool
) -> int:
    """Delete images with their vectors and objects; return how many of *ids* existed.

    With *tombstone*, the next syncs of the folders that hold the content do not upload it again. If the store is
    unavailable, the images are deleted all the same, and their objects with the next sync.
    """
    deleted = await database.run(pending_objects.delete_images, collection, ids, tombstone=tombstone)
    try:
        await delete_pending_objects(database, store, collection)
    except StoreError as exc:
        log.warning("deleted %d images; their objects remain until the next sync: %s", deleted, exc)
    return deleted


async def delete_pending_objects(database: Database, store: ObjectStore, collection: Collection) -> int:
    """Delete the objects that are due and that no image references; return how many.

    Raises StoreError if the store refuses or is unavailable; the remaining objects stay listed.
    """
    deleted = 0
    while (batch := await _delete_batch(database, store, collection)) is not None:
        deleted += batch
    return deleted


async def _delete_batch(database: Database, store: ObjectStore, collection: Collection) -> int | None:
    claim = uuid4()
    due = await database.run(pending_objects.claim_due, collection, claim, duration=CLAIM_TIME, limit=BATCH)
    if not due:
        return None
    try:
        async with asyncio.timeout(CHECK_TIMEOUT):
            ours = await asyncio.gather(*(_own_key(store, each) for each in due if not each.referenced))
        keys = [key for key in ours if key is not None]
        await store.delete(keys)
    except (StoreError, TimeoutError) as exc:
        with suppress(DatabaseError):  # the claim expires after CLAIM_TIME
            await database.run(pending_objects.release_claim, collection, claim)
        if isinstance(exc, TimeoutError):
            raise StoreError(
                f"bucket {store.bucket!r} is too slow to check {len(due)} objects", transient=True
            ) from exc
        raise
    await database.run(pending_objects.finish_claim, collection, claim)
    return len(keys)


async def _own_key(store: ObjectStore, due: PendingDeletion) -> str | None:
    """Return the object's key if it is ours to delete; None if an interrupted upload found it there."""
    if due.derived or due.stored:
        return due.key
    try:
        found = await object_sha256(store, await store.head(due.key))
    except ObjectMissing:
        return None
    return due.key if found in {content.hex() for content in due.contents} else None
