"""`syncer reembed`: replace a collection's vectors with those of another model."""

import argparse
from typing import get_args

from shared.errors import SettingsError
from shared.models import Collection
from shared.settings import EmbedderKind
from shared.sql import queue
from syncer import output, reembedding
from syncer.commands.arguments import add_bucket, add_embed_concurrency
from syncer.context import (
    DONE,
    SOME_FAILED,
    CommandContext,
    open_context,
    read_status,
    require_collection,
)

HELP = "replace a collection's vectors with those of another model while search keeps working"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_bucket(parser)
    action = parser.add_mutually_exclusive_group()
    action.add_argument("--embedder", choices=get_args(EmbedderKind), help="the new model (default: $EMBEDDER)")
    action.add_argument("--rollback", action="store_true", help="switch back to the previous model's vectors")
    action.add_argument(
        "--forget",
        action="store_true",
        help="delete the vectors that are not in use: the previous model's, or those of an unfinished re-embedding",
    )
    parser.add_argument(
        "--yes", action="store_true", help="switch even if more than 10 %% of the images would lose their vector"
    )
    add_embed_concurrency(parser)


async def run(arguments: argparse.Namespace) -> int:
    async with open_context(arguments) as context:
        collection = await require_collection(context)
        if arguments.forget:
            discarded = await reembedding.discard(context.database, collection)
            output.print_result(
                {"bucket": collection.bucket, "model": collection.model, "forgotten": discarded.model},
                f"{collection.bucket}: deleted the vectors of {discarded.model}",
                as_json=arguments.json,
            )
            return DONE
        if arguments.rollback:
            await reembedding.roll_back(context.database, collection)
        else:
            await _re_embed(context, collection, confirmed=arguments.yes)
        switched = await require_collection(context)
        status = await context.database.run(read_status, switched)
        failures = await context.database.run(queue.failures, switched)
    output.print_result(
        status.as_json() | {"previous_model": collection.model},
        f"{status.bucket}: switched from {collection.model} to {status.model}; --rollback switches back",
        *output.format_failures(failures),
        *output.format_collection(status),
        as_json=arguments.json,
    )
    return SOME_FAILED if status.failed else DONE


async def _re_embed(context: CommandContext, collection: Collection, *, confirmed: bool) -> None:
    if context.settings.embedder is None:
        raise SettingsError("no model selected: pass --embedder replicate, clip or offline")
    embedder = context.open_embedder()
    store = await context.open_store(collection.bucket)
    await reembedding.re_embed(context, collection, embedder, store, confirmed=confirmed)
