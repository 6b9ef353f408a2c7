"""Phases of a sync: upload or adopt, and embed and read at the same time. Shows progress, prints the summary."""

import argparse
import asyncio
import gc
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from shared import factory
from shared.embedders.base import Embedder
from shared.models import Collection
from shared.sql import collections
from syncer import output
from syncer.backfill import Backfill
from syncer.context import (
    COULD_NOT_RUN,
    DONE,
    SOME_FAILED,
    CommandContext,
    open_context,
    read_status,
    require_bucket,
    require_collection,
    show_progress,
)
from syncer.embedding import EmbeddingRun
from syncer.reading import open_reading
from syncer.target import SyncTarget


@dataclass
class SyncRun:
    """Resources and results of the first phase.

    ``withheld`` tells why images were not deleted. ``gone`` counts adopted images that stay though their objects are
    gone; None in a sync of a folder.
    """

    arguments: argparse.Namespace
    context: CommandContext
    target: SyncTarget
    withheld: str = ""
    gone: int | None = None


FirstPhase = Callable[[SyncRun], Coroutine[Any, Any, None]]


async def run_phases(
    arguments: argparse.Namespace,
    first_phase: FirstPhase | None = None,
    *,
    bucket: str | None = None,
    embed: bool = True,
) -> int:
    """Run the first phase, the second (*embed*, with OCR), or both at the same time; return the exit status.

    With a first phase, create the collection if there is none; *bucket* is its name if the settings have none.
    """
    async with open_context(arguments) as context:
        if first_phase:
            # A store that cannot be used leaves no empty collection.
            store = await context.open_store(require_bucket(context.settings, bucket))
            collection, embedder = await _ensure_collection(context, store.bucket)
        else:
            collection = await require_collection(context)
            embedder = context.open_embedder(collection)
            store = await context.open_store(collection.bucket)

        embedding = EmbeddingRun(context, collection, embedder, store)
        reading = await open_reading(context, collection, store) if embed else None
        backfill = Backfill(context, collection)
        target = SyncTarget(
            collection, store, context.database, context.decoder, context.retry, context.progress, embedding
        )
        run = SyncRun(arguments, context, target)

        async def run_first_phase() -> None:
            if first_phase:
                await first_phase(run)
            embedding.finish()
            backfill.finish()
            if reading:
                reading.finish()

        # Everything loaded by now stays until the end, so the garbage collector need not visit it.
        gc.freeze()
        async with show_progress(context, collection), asyncio.TaskGroup() as phases:
            phases.create_task(run_first_phase())
            phases.create_task(backfill.run())
            if embed:
                phases.create_task(embedding.run())
            if reading:
                phases.create_task(reading.run())
        return await _summary(run)


async def _ensure_collection(context: CommandContext, bucket: str) -> tuple[Collection, Embedder]:
    found = await context.database.run(collections.find, bucket=bucket)
    embedder = context.open_embedder(found)
    if found is None:
        context.decoder.start()
        found = await context.database.run(
            collections.ensure,
            bucket=bucket,
            model=embedder.name,
            dimensions=embedder.dimensions,
            now=datetime.now(UTC),
        )
        factory.check_same_model(embedder, bucket=bucket, model=found.model)
    return found, embedder


async def _summary(run: SyncRun) -> int:
    status = await run.context.database.run(read_status, run.target.collection)
    done, skipped = run.context.progress.counts, run.context.progress.skipped
    output.print_sync_summary(status, done, skipped, gone=run.gone, withheld=run.withheld, as_json=run.arguments.json)
    if status.failed or done["failed"]:
        return SOME_FAILED
    return COULD_NOT_RUN if run.withheld else DONE
