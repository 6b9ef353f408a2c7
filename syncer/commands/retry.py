"""`syncer retry`: put quarantined images back into the queue."""

import argparse

from shared.db.pool import Connection
from shared.models import Collection
from shared.sql import queue, texts
from syncer import output, reembedding
from syncer.commands.arguments import add_bucket
from syncer.context import DONE, open_context, require_collection

HELP = "put quarantined images back into the queue"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_bucket(parser)
    parser.add_argument("--key", help="retry only this image")


async def run(arguments: argparse.Namespace) -> int:
    async with open_context(arguments) as context:
        collection = await require_collection(context)
        count = await context.database.run(_retry, collection, key=arguments.key)
    output.print_result(
        {"bucket": collection.bucket, "retried": count},
        f"{count} queued again; run `syncer embed --bucket {collection.bucket}` or the next `syncer sync`",
        as_json=arguments.json,
    )
    return DONE


async def _retry(conn: Connection, collection: Collection, *, key: str | None) -> int:
    """Retry with the collection's model, with that of a re-embedding, and with OCR."""
    count = await queue.retry(conn, collection, key=key)
    count += await queue.retry(conn, texts.stage(collection), key=key)
    if following := await reembedding.find_next(conn, collection):
        count += await queue.retry(conn, following[1], key=key)
    return count
