"""Run the phases of a sync together: upload or adopt, and embed. Show progress and print the summary."""

import argparse
import asyncio
import contextlib
import gc
import sys
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from shared import factory
from shared.db import table_names
from shared.embedders.base import Embedder
from shared.images.worker_pool import DecoderPool
from shared.models import Collection
from shared.sql import collections
from shared.stores.base import ObjectStore
from syncer import output
from syncer.context import (
    COULD_NOT_RUN,
    DONE,
    SOME_FAILED,
    CommandContext,
    bucket_of,
    embedder_for,
    embedding_of,
    existing,
    measure,
    opened,
    read,
)


@dataclass
class SyncRun:
    """What the first phase works with; it calls ``arrived`` when there is something to embed."""

    arguments: argparse.Namespace
    parts: CommandContext
    collection: Collection
    store: ObjectStore
    decoder: DecoderPool
    arrived: Callable[[], None]
    withheld: str = ""  # what was not deleted though that was asked for, and why
    gone: int | None = None  # how many adopted images stay whose objects are gone; None where nobody looked


async def run_phases(
    arguments: argparse.Namespace,
    bring: Callable[[SyncRun], Coroutine[Any, Any, None]] | None = None,
    *,
    bucket: str | None = None,
    embed: bool = True,
) -> int:
    """Run the first phase, which is *bring*, the second or both at once, show how they go on, and report.

    The first phase makes the collection where there is none, of *bucket* where the settings name none.
    """
    async with opened(arguments) as parts, contextlib.AsyncExitStack() as stack:
        decoder = DecoderPool()
        stack.push_async_callback(decoder.close)
        if bring:
            collection, embedder = await _ensure_collection(parts, bucket, decoder)
        else:
            collection = await existing(parts)
            embedder = embedder_for(parts, collection.model, collection.bucket, decoder)
        stack.push_async_callback(embedder.close)
        concurrency = parts.settings.upload_concurrency + parts.settings.embed_concurrency
        store = factory.open_store(parts.settings, collection.bucket, concurrency=concurrency)
        stack.push_async_callback(store.close)
        await parts.retry.run(store.prepare)

        embedding = embedding_of(parts, collection, embedder, store)
        run = SyncRun(arguments, parts, collection, store, decoder, embedding.arrived)

        async def first_phase() -> None:
            if bring:
                await bring(run)
            embedding.no_more_to_come()

        # All that is loaded by now stays to the end: the collector need not go through it again and again.
        gc.freeze()
        with parts.progress.shown():
            async with asyncio.TaskGroup() as tasks:
                watching = tasks.create_task(measure(parts, collection))
                async with asyncio.TaskGroup() as phases:
                    phases.create_task(first_phase())
                    if embed:
                        phases.create_task(embedding.run())
                watching.cancel()
        return await _summary(run)


async def _ensure_collection(
    parts: CommandContext, bucket: str | None, decoder: DecoderPool
) -> tuple[Collection, Embedder]:
    bucket = table_names.check_bucket(bucket_of(parts.settings, bucket))
    found = await parts.database.run(collections.find, bucket=bucket)
    embedder = embedder_for(parts, found.model if found else None, bucket, decoder)
    if found is None:
        decoder.start()
        found = await parts.database.run(
            collections.ensure,
            bucket=bucket,
            model=embedder.name,
            dimensions=embedder.dimensions,
            now=datetime.now(UTC),
        )
        factory.check_same_model(embedder, bucket=bucket, model=found.model)
    return found, embedder


async def _summary(run: SyncRun) -> int:
    parts, withheld = run.parts, run.withheld
    row = await parts.database.run(read, collection=run.collection)
    done = parts.progress.counts
    if run.arguments.json:
        brought = {what: done[what] for what in ("uploaded", "adopted", "moved", "deleted", "unchanged")}
        beside = {"embedded_now": done["embedded"], "gone": run.gone, "withheld": withheld or None}
        output.as_json(row.as_json() | brought | beside)
    else:
        seldom = ("adopted", "moved", "deleted")
        brought_now = [f"{done[what]} {what}" for what in ("uploaded", *seldom) if done[what] or what not in seldom]
        print(f"{', '.join(brought_now)}, {done['unchanged']} unchanged, {done['embedded']} embedded by this run")
        output.status([row])
    if withheld:
        print(f"syncer: {withheld}", file=sys.stderr)
    if row.failed or done["failed"]:
        return SOME_FAILED
    return COULD_NOT_RUN if withheld else DONE
