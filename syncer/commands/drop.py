"""`syncer drop`: delete a collection."""

import argparse

from shared.errors import SettingsError
from shared.models import Collection
from shared.sql import collections, stats
from syncer import output
from syncer.commands.arguments import add_bucket
from syncer.context import DONE, CommandContext, open_context, require_collection
from syncer.drop import delete_own_objects

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
        deleted = 0 if arguments.keep_objects else await _delete_objects(context, collection)
        await context.database.run(collections.drop, collection)
    if arguments.json:
        output.print_json({"bucket": collection.bucket, "dropped": True, "objects_removed": deleted})
    else:
        print(f"{collection.bucket}: deleted the collection and {deleted} objects")
    return DONE


async def _delete_objects(context: CommandContext, collection: Collection) -> int:
    store = await context.open_store(collection.bucket, concurrency=context.settings.upload_concurrency)
    return await delete_own_objects(context.database, store, collection)
