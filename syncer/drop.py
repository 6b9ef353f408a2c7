"""Delete the objects that were stored for a collection."""

from collections.abc import Sequence

from shared.db.pool import Database
from shared.models import Collection
from shared.object_deletion import delete_pending_objects
from shared.sql import images, pending_objects
from shared.stores.base import RESERVED_PREFIX, ObjectStore

BATCH = 1000


async def delete_own_objects(database: Database, store: ObjectStore, collection: Collection) -> int:
    """Delete uploaded images and everything under the reserved prefix; return how many objects.

    Adopted objects were in the bucket first and stay.
    """
    # Left over by killed uploads and failed deletions.
    await database.run(pending_objects.abandon_uploads, collection, source=None)
    deleted = await delete_pending_objects(database, store, collection)
    last = ""
    while keys := await database.run(images.own_keys, collection, after=last, limit=BATCH):
        deleted += await _delete(store, keys)
        last = keys[-1]
    derived: list[str] = []
    async for found in store.list(RESERVED_PREFIX):
        derived.append(found.key)
        if len(derived) == BATCH:
            deleted += await _delete(store, derived)
            derived = []
    return deleted + await _delete(store, derived)


async def _delete(store: ObjectStore, keys: Sequence[str]) -> int:
    await store.delete(keys)
    return len(keys)
