"""`syncer buckets`: list collections."""

import argparse

from shared.sql import collections
from syncer import output
from syncer.context import DONE, open_context

HELP = "list collections with their models"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    pass


async def run(arguments: argparse.Namespace) -> int:
    async with open_context(arguments, schema="check") as context:
        rows = await context.database.run(collections.list_all)
    output.print_result(
        {"buckets": [{"bucket": c.bucket, "model": c.model, "dimensions": c.dimensions} for c in rows]},
        *(f"{c.bucket}  {c.model}  {c.dimensions} dimensions" for c in rows),
        as_json=arguments.json,
    )
    return DONE
