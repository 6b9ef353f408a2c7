"""The commands that bring images and vectors: sync, upload, adopt, embed."""

import argparse
import asyncio
import contextlib
import gc
import socket
import sys
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any

from shared import factory, images
from shared.db import table_names
from shared.embedders.base import Embedder
from shared.errors import SettingsError
from shared.images.worker_pool import DecoderPool
from shared.models import Collection
from shared.retry import outage_policy
from shared.sql import collections
from shared.stores.base import ObjectStore
from syncer import output
from syncer.bucket.adopter import Adoption
from syncer.context import (
    COULD_NOT_RUN,
    DONE,
    SOME_FAILED,
    CommandContext,
    bucket_of,
    embedder_for,
    embedding_of,
    existing,
    load,
    measure,
    opened,
    read,
)
from syncer.folder.deletion import Deletion
from syncer.folder.dry_run import BucketPreview, Preview
from syncer.folder.executor import Uploader
from syncer.folder.ignore import Selection
from syncer.folder.watcher import Settling, Watch
from syncer.progress import Progress


async def sync(arguments: argparse.Namespace) -> int:
    folder = _folder(arguments.folder)
    if arguments.dry_run:
        return await _dry_run(arguments, folder)
    return await _transfer(arguments, partial(_bring_folder, folder), bucket=folder.name)


async def upload(arguments: argparse.Namespace) -> int:
    folder = _folder(arguments.folder)
    if arguments.dry_run:
        return await _dry_run(arguments, folder)
    return await _transfer(arguments, partial(_bring_folder, folder), bucket=folder.name, embed=False)


async def adopt(arguments: argparse.Namespace) -> int:
    try:
        arguments.prefix.encode()
    except UnicodeEncodeError as exc:
        raise SettingsError(f"--prefix is {arguments.prefix!r}, which is not valid Unicode, as all keys are") from exc
    if arguments.dry_run:
        return await _dry_run_bucket(arguments)
    return await _transfer(arguments, _bring_bucket, embed=not arguments.no_embed)


async def embed(arguments: argparse.Namespace) -> int:
    return await _transfer(arguments)


@dataclass
class Transfer:
    """What the first phase works with; it calls ``arrived`` when there is something to embed."""

    arguments: argparse.Namespace
    parts: CommandContext
    collection: Collection
    store: ObjectStore
    decoder: DecoderPool
    arrived: Callable[[], None]
    withheld: str = ""  # what was not deleted though that was asked for, and why
    gone: int | None = None  # how many adopted images stay whose objects are gone; None where nobody looked


async def _transfer(
    arguments: argparse.Namespace,
    bring: Callable[[Transfer], Coroutine[Any, Any, None]] | None = None,
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
        transfer = Transfer(arguments, parts, collection, store, decoder, embedding.arrived)

        async def first_phase() -> None:
            if bring:
                await bring(transfer)
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
        return await _summary(transfer)


def _folder(path: Path) -> Path:
    """Return the folder with links resolved, so that it is the same source whichever way it is named."""
    folder = path.expanduser().resolve()
    if not folder.is_dir():
        raise SettingsError(f"{path} is no folder: give the folder that holds the images")
    return folder


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
        factory.same_model(embedder, bucket=bucket, model=found.model)
    return found, embedder


async def _bring_folder(folder: Path, transfer: Transfer) -> None:
    arguments, settings = transfer.arguments, transfer.parts.settings
    # Only `syncer sync` can watch.
    watch: bool = getattr(arguments, "watch", False)
    selection, settling = _selection(arguments, folder), Settling()
    uploader = Uploader(
        folder,
        transfer.collection,
        source=_source(arguments, folder),
        selection=selection,
        database=transfer.parts.database,
        store=transfer.store,
        decoder=transfer.decoder,
        retry=transfer.parts.retry,
        progress=transfer.parts.progress,
        arrived=transfer.arrived,
        concurrency=settings.upload_concurrency,
        derivatives=not arguments.no_derivatives,
        deletion=_deletion(arguments),
        at_rest=settling.at_rest if watch else lambda file: True,
    )
    if watch:
        shown, rescan = transfer.parts.progress, settings.watch_rescan_seconds
        await Watch(folder, selection, uploader, settling, shown, rescan=rescan).run()
    if not await uploader.run():
        transfer.parts.progress.say("another syncer is bringing this folder over, and a further one waits to be next")
    transfer.withheld = uploader.withheld


def _source(arguments: argparse.Namespace, folder: Path) -> str:
    return arguments.source or f"{socket.gethostname()}:{folder}"


def _selection(arguments: argparse.Namespace, folder: Path) -> Selection:
    return Selection(folder, images.EXTENSIONS, include=arguments.include, exclude=arguments.exclude)


def _deletion(arguments: argparse.Namespace) -> Deletion:
    return Deletion(wanted=arguments.delete, confirmed=arguments.yes)


async def _dry_run(arguments: argparse.Namespace, folder: Path) -> int:
    """Say what a run would do; neither the bucket nor the database is changed."""
    loaded = load(arguments)
    bucket = table_names.check_bucket(loaded.bucket or folder.name)
    retry_timeout = loaded.outage_patience_seconds
    async with factory.open_database(loaded, max_connections=2, retry_timeout=retry_timeout) as database:
        preview = Preview(
            folder,
            bucket,
            source=_source(arguments, folder),
            selection=_selection(arguments, folder),
            database=database,
            deletion=_deletion(arguments),
        )
        await output.dry_run(preview, as_one_object=arguments.json)
    return DONE


async def _bring_bucket(transfer: Transfer) -> None:
    arguments = transfer.arguments
    adoption = Adoption(
        transfer.collection,
        prefix=arguments.prefix,
        suffixes=images.EXTENSIONS,
        reclaim=arguments.reclaim,
        database=transfer.parts.database,
        store=transfer.store,
        decoder=transfer.decoder,
        retry=transfer.parts.retry,
        progress=transfer.parts.progress,
        arrived=transfer.arrived,
        concurrency=transfer.parts.settings.upload_concurrency,
        derivatives=not arguments.no_derivatives,
        deletion=_deletion(arguments),
    )
    if not await adoption.run():
        transfer.parts.progress.say("another syncer is indexing this bucket, and a further one waits to be next")
        return
    transfer.gone, transfer.withheld = adoption.gone, adoption.withheld
    if adoption.gone and not arguments.delete:
        transfer.parts.progress.say(
            f"gone from the bucket: {adoption.gone} of the images that were adopted; --delete removes them here, too"
        )


async def _dry_run_bucket(arguments: argparse.Namespace) -> int:
    """Say what adopting would do; neither the bucket nor the database is changed."""
    loaded = load(arguments)
    bucket = table_names.check_bucket(bucket_of(loaded))
    retry_timeout, waiting = loaded.outage_patience_seconds, Progress(quiet=arguments.json).waiting
    async with (
        factory.open_database(loaded, max_connections=2, retry_timeout=retry_timeout, waiting=waiting) as database,
        contextlib.AsyncExitStack() as stack,
    ):
        store = factory.open_store(loaded, bucket, concurrency=1)
        stack.push_async_callback(store.close)
        retry = outage_policy(retry_timeout, waiting)
        await retry.run(store.prepare)
        preview = BucketPreview(
            store,
            arguments.prefix,
            suffixes=images.EXTENSIONS,
            database=database,
            retry=retry,
            deletion=_deletion(arguments),
        )
        await output.dry_run(preview, as_one_object=arguments.json)
    return DONE


async def _summary(transfer: Transfer) -> int:
    parts, withheld = transfer.parts, transfer.withheld
    row = await parts.database.run(read, collection=transfer.collection)
    done = parts.progress.counts
    if transfer.arguments.json:
        brought = {what: done[what] for what in ("uploaded", "adopted", "moved", "deleted", "unchanged")}
        beside = {"embedded_now": done["embedded"], "gone": transfer.gone, "withheld": withheld or None}
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
