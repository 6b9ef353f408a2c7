"""`syncer drop`: remove a collection."""

import argparse
import contextlib

from shared import factory
from shared.errors import SettingsError
from shared.sql import collections, stats
from syncer import output
from syncer.context import DONE, existing, opened
from syncer.drop import drop_objects


async def run(arguments: argparse.Namespace) -> int:
    async with opened(arguments) as parts, contextlib.AsyncExitStack() as stack:
        collection = await existing(parts)
        if not arguments.yes:
            counts = await parts.database.run(stats.counts, collection=collection)
            raise SettingsError(f"this removes {collection.bucket!r} with {counts.total} images: add --yes to do it")
        removed = 0
        if not arguments.keep_objects:
            store = factory.open_store(parts.settings, collection.bucket, concurrency=parts.settings.upload_concurrency)
            stack.push_async_callback(store.close)
            removed = await drop_objects(parts.database, store, collection)
        await parts.database.run(collections.drop, collection=collection)
    if arguments.json:
        output.as_json({"bucket": collection.bucket, "dropped": True, "objects_removed": removed})
    else:
        print(f"{collection.bucket}: removed, with {removed} objects")
    return DONE
