"""`syncer buckets`: list collections."""

import argparse

from shared.sql import collections
from syncer import output
from syncer.context import DONE, opened


async def run(arguments: argparse.Namespace) -> int:
    async with opened(arguments) as parts:
        rows = await parts.database.run(collections.list_all)
    if arguments.json:
        output.as_json({"buckets": [{"bucket": c.bucket, "model": c.model, "dimensions": c.dimensions} for c in rows]})
    else:
        output.collections(rows)
    return DONE
