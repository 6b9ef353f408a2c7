"""Removes from a bucket what was put there for a collection."""

from shared.db.pool import Database
from shared.models import Collection
from shared.object_deletion import delete_pending_objects
from shared.sql import images, pending_objects
from shared.stores.base import RESERVED_PREFIX, ObjectStore

BATCH = 1000


async def drop_objects(database: Database, store: ObjectStore, collection: Collection) -> int:
    """Remove the collection's objects and all that is ours in the bucket; return how many.

    Objects that were adopted were there before us, and stay.
    """
    # What uploads that were killed, and removals that failed, have left.
    await database.run(pending_objects.abandon_uploads, collection=collection, source=None)
    removed = await delete_pending_objects(database, store, collection)
    last = ""
    while keys := await database.run(images.own_keys, collection=collection, after=last, limit=BATCH):
        await store.delete(keys)
        removed += len(keys)
        last = keys[-1]
    ours: list[str] = []
    async for found in store.list(RESERVED_PREFIX):
        ours.append(found.key)
        if len(ours) == BATCH:
            await store.delete(ours)
            removed += len(ours)
            ours.clear()
    await store.delete(ours)
    return removed + len(ours)
