"""`syncer drop`: delete a collection."""

import argparse
from collections.abc import Sequence

from shared.errors import SettingsError
from shared.models import Collection
from shared.object_deletion import delete_pending_objects
from shared.sql import collections, images, pending_objects, stats
from shared.stores.base import RESERVED_PREFIX, ObjectStore
from syncer import output
from syncer.commands.arguments import add_bucket
from syncer.context import DONE, CommandContext, open_context, require_collection

BATCH = 1000

HELP = "delete a collection with the objects uploaded for it; adopted objects stay"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_bucket(parser)
    parser.add_argument("--yes", action="store_true", help="confirm the deletion")
    parser.add_argument("--keep-objects", action="store_true", help="delete only the rows, no objects")


async def run(arguments: argparse.Namespace) -> int:
    async with open_context(arguments) as context:
        collection = await require_collection(context)
        if not arguments.yes:
            counts = await context.database.run(stats.counts, collection)
            raise SettingsError(f"this deletes {collection.bucket!r} with {counts.total} images; pass --yes to confirm")
        deleted = 0 if arguments.keep_objects else await _delete_own_objects(context, collection)
        await context.database.run(collections.drop, collection)
    output.print_result(
        {"bucket": collection.bucket, "dropped": True, "objects_removed": deleted},
        f"{collection.bucket}: deleted the collection and {deleted} objects",
        as_json=arguments.json,
    )
    return DONE


async def _delete_own_objects(context: CommandContext, collection: Collection) -> int:
    """Delete uploaded images and everything under the reserved prefix; return how many objects.

    Adopted objects were in the bucket first and stay.
    """
    store = await context.open_store(collection.bucket, damaged=True)
    # Left over by killed uploads and failed deletions.
    await context.database.run(pending_objects.abandon_uploads, collection, source=None)
    deleted = await delete_pending_objects(context.database, store, collection)
    last = ""
    while keys := await context.database.run(images.own_keys, collection, after=last, limit=BATCH):
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
