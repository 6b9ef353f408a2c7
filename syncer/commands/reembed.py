"""The command that gives a collection another model: reembed."""

import argparse
import asyncio
import contextlib
from functools import partial

from shared import factory
from shared.errors import SettingsError
from shared.images.worker_pool import DecoderPool
from shared.models import Collection
from shared.sql import queue
from syncer import output, reembedding
from syncer.context import DONE, SOME_FAILED, CommandContext, embedding_of, existing, measure, opened, read


async def run(arguments: argparse.Namespace) -> int:
    """Fill the vectors of another model and switch to them; or go back; or remove those that lie beside."""
    async with opened(arguments) as parts:
        collection = await existing(parts)
        if arguments.forget:
            forgotten = await reembedding.forget(parts.database, collection)
            if arguments.json:
                output.as_json({"bucket": collection.bucket, "model": collection.model, "forgotten": forgotten.model})
            else:
                print(f"{collection.bucket}: the vectors of {forgotten.model} are removed")
            return DONE
        if arguments.rollback:
            await reembedding.roll_back(parts.database, collection)
        else:
            await _fill_and_switch(parts, collection, yes=arguments.yes)
        switched = await existing(parts)
        row = await parts.database.run(read, collection=switched)
        failures = await parts.database.run(queue.failures, collection=switched, model=switched.model)
    if arguments.json:
        output.as_json(row.as_json() | {"previous_model": collection.model})
    else:
        print(f"{row.bucket}: {row.model} instead of {collection.model}; `syncer reembed --rollback` goes back")
        output.failures(failures)
        output.status([row])
    return SOME_FAILED if row.failed else DONE


async def _fill_and_switch(parts: CommandContext, collection: Collection, *, yes: bool) -> None:
    if parts.settings.embedder is None:
        raise SettingsError("no model is named: give --embedder replicate, clip or offline")
    concurrency = parts.settings.embed_concurrency
    async with contextlib.AsyncExitStack() as stack:
        decoder = DecoderPool()
        stack.push_async_callback(decoder.close)
        embedder = factory.make_embedder(parts.settings, parts.settings.embedder, decoder, concurrency=concurrency)
        stack.push_async_callback(embedder.close)
        if embedder.notice:
            parts.progress.say(embedder.notice)
        store = factory.open_store(parts.settings, collection.bucket, concurrency=concurrency)
        stack.push_async_callback(store.close)
        await parts.retry.run(store.prepare)
        beside = await reembedding.begin(parts.database, collection, embedder)
        fill = partial(embedding_of, parts, beside, embedder, store)
        with parts.progress.shown():
            async with asyncio.TaskGroup() as tasks:
                watching = tasks.create_task(measure(parts, beside))
                await reembedding.fill_and_switch(parts.database, collection, embedder.name, fill, yes=yes)
                watching.cancel()
