"""`syncer failed`: list quarantined images and why they failed."""

import argparse

from shared.sql import queue, texts
from syncer import output
from syncer.commands.arguments import add_bucket
from syncer.context import DONE, open_context, require_collection

HELP = "list quarantined images and why they failed"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_bucket(parser)


async def run(arguments: argparse.Namespace) -> int:
    async with open_context(arguments, schema="check") as context:
        collection = await require_collection(context)
        rows = await context.database.run(queue.failures, collection)
        unread = await context.database.run(texts.failures, collection)
    result = {
        "bucket": collection.bucket,
        "failed": [vars(row) for row in rows],
        "unread": [vars(row) for row in unread],
    }
    lines = [
        *output.format_failures(rows),
        *(f"{line}; its text was not read" for line in output.format_failures(unread)),
    ]
    output.print_result(result, *lines, as_json=arguments.json)
    return DONE
