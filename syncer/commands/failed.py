"""`syncer failed`: list quarantined images and why they failed."""

import argparse

from shared.sql import queue
from syncer import output
from syncer.context import DONE, existing, opened


async def run(arguments: argparse.Namespace) -> int:
    async with opened(arguments) as parts:
        collection = await existing(parts)
        rows = await parts.database.run(queue.failures, collection=collection, model=collection.model)
    if arguments.json:
        output.as_json({"bucket": collection.bucket, "failed": [vars(row) for row in rows]})
    else:
        output.failures(rows)
    return DONE
