"""`syncer reembed`: replace a collection's vectors with those of another model."""

import argparse
import asyncio
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
    make_embedding_run,
    open_context,
    read_status,
    require_collection,
    show_status,
)
from syncer.embedding import EmbeddingRun

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
            return await _discard(context, collection, as_json=arguments.json)
        if arguments.rollback:
            await reembedding.roll_back(context.database, collection)
        else:
            await _fill_and_switch(context, collection, yes=arguments.yes)
        switched = await require_collection(context)
        status = await context.database.run(read_status, switched)
        failures = await context.database.run(queue.failures, switched)
    if arguments.json:
        output.print_json(status.as_json() | {"previous_model": collection.model})
    else:
        print(f"{status.bucket}: switched from {collection.model} to {status.model}; --rollback switches back")
        output.print_failures(failures)
        output.print_status(status)
    return SOME_FAILED if status.failed else DONE


async def _discard(context: CommandContext, collection: Collection, *, as_json: bool) -> int:
    discarded = await reembedding.discard(context.database, collection)
    if as_json:
        output.print_json({"bucket": collection.bucket, "model": collection.model, "forgotten": discarded.model})
    else:
        print(f"{collection.bucket}: deleted the vectors of {discarded.model}")
    return DONE


async def _fill_and_switch(context: CommandContext, collection: Collection, *, yes: bool) -> None:
    if context.settings.embedder is None:
        raise SettingsError("no model selected: pass --embedder replicate, clip or offline")
    embedder = context.open_embedder(context.settings.embedder, context.open_decoder())
    store = await context.open_store(collection.bucket, concurrency=context.settings.embed_concurrency)
    target = await reembedding.start(context.database, collection, embedder)

    def make_run() -> EmbeddingRun:
        return make_embedding_run(context, target, embedder, store)

    with context.progress.shown():
        async with asyncio.TaskGroup() as tasks:
            display = tasks.create_task(show_status(context, target))
            await reembedding.fill_and_switch(context.database, collection, embedder.name, make_run, yes=yes)
            display.cancel()
