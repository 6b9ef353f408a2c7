"""Build the context of a command from its arguments and the settings."""

import argparse
import asyncio
import math
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from typing import Literal

from shared import collection_status, factory, settings
from shared.collection_status import Status
from shared.db import migrate, table_names
from shared.db.pool import Connection, Database
from shared.embedders.base import Embedder
from shared.errors import DatabaseError, SettingsError
from shared.images.worker_pool import DecoderPool
from shared.models import Collection
from shared.retry import RetryPolicy, outage_policy
from shared.sql import collections
from shared.stores.base import ObjectStore
from syncer.marker import check_marker
from syncer.progress import Progress
from syncer.settings import SyncerSettings

# Exit statuses; argparse exits with 2 if the arguments are wrong.
DONE, COULD_NOT_RUN, SOME_FAILED, INTERRUPTED = 0, 1, 3, 130


@dataclass(frozen=True)
class CommandContext:
    """Settings, database and services of a command; ``resources`` are closed when the command ends."""

    settings: SyncerSettings
    database: Database
    decoder: DecoderPool
    progress: Progress
    retry: RetryPolicy
    resources: AsyncExitStack

    async def open_store(self, bucket: str, *, damaged: bool = False) -> ObjectStore:
        """Return the store of *bucket* after checking that it can be reached and is the one of its collection.

        With *damaged*, a bucket that was emptied or is missing is accepted.
        """
        store = factory.open_store(self.settings, bucket, concurrency=self.settings.upload_concurrency)
        self.resources.push_async_callback(store.close)
        # A dry run may find a database without tables.
        migrated = await self.database.run(migrate.is_migrated)
        collection = await self.database.run(collections.find, bucket) if migrated else None
        marked = collection is not None and collection.marked and not damaged
        await self.retry.run(store.prepare, create=not marked)
        if collection and marked:
            await self.retry.run(check_marker, store, collection)
        return store

    def open_embedder(self, collection: Collection | None = None) -> Embedder:
        """Return the embedder of a collection, or the one that the settings select for new collections.

        Raises SettingsError if EMBEDDER or CLIP_MODEL asks for another model than the collection's.
        """
        concurrency = self.settings.embed_concurrency
        if collection and self._allows(collection.model):
            model = collection.model
            embedder = factory.embedder_for_model(self.settings, model, self.decoder, concurrency=concurrency)
        else:
            kind = self.settings.default_embedder
            embedder = factory.make_embedder(self.settings, kind, self.decoder, concurrency=concurrency)
        self.resources.push_async_callback(embedder.close)
        if embedder.notice:
            self.progress.say(embedder.notice)
        if collection:
            factory.check_same_model(embedder, bucket=collection.bucket, model=collection.model)
        return embedder

    def _allows(self, model: str) -> bool:
        """Return whether the settings ask for no model other than *model*."""
        kind = self.settings.embedder
        any_clip = kind == "clip" and self.settings.clip_model is None
        return kind is None or (any_clip and factory.embedder_kind(model) == "clip")


def load_settings(arguments: argparse.Namespace) -> SyncerSettings:
    """Return the settings; command-line flags override the environment."""
    flags = ("bucket", "upload_concurrency", "embed_concurrency", "embedder")
    return settings.load(SyncerSettings, **{flag: getattr(arguments, flag, None) for flag in flags})


@asynccontextmanager
async def open_context(
    arguments: argparse.Namespace, *, schema: Literal["migrate", "check", "ignore"] = "migrate"
) -> AsyncIterator[CommandContext]:
    """Open the database and yield the command's context.

    Commands that only read check the schema instead of migrating; DatabaseError tells that there is none or that it is
    older. A dry run ignores it, because there may be no tables yet.
    """
    loaded = load_settings(arguments)
    progress = Progress(quiet=arguments.json, verbose=getattr(arguments, "verbose", False))
    # A watch outlives any outage.
    watching = getattr(arguments, "watch", False)
    retry_timeout = math.inf if watching else loaded.outage_patience(reads_only=schema != "migrate")
    connections = loaded.upload_concurrency + loaded.embed_concurrency + 3
    async with (
        factory.open_database(
            loaded, max_connections=connections, retry_timeout=retry_timeout, report=progress.report_outage
        ) as database,
        AsyncExitStack() as resources,
    ):
        if schema == "migrate":
            await database.run(migrate.migrate)
        elif schema == "check" and not await database.run(migrate.is_migrated):
            raise DatabaseError("the database has no tables yet: the first `syncer sync` creates them")
        decoder = DecoderPool(memory_limit=loaded.decode_memory)
        resources.push_async_callback(decoder.close)
        retry = outage_policy(retry_timeout, progress.report_outage)
        yield CommandContext(loaded, database, decoder, progress, retry, resources)


def require_bucket(loaded: SyncerSettings, default: str | None = None) -> str:
    """Return the name of the selected bucket, or *default*; raise SettingsError if there is neither."""
    bucket = loaded.bucket or default
    if not bucket:
        raise SettingsError("no bucket selected: pass --bucket NAME or set BUCKET")
    return table_names.check_bucket(bucket)


async def require_collection(context: CommandContext) -> Collection:
    """Return the collection of the selected bucket; raise SettingsError if it does not exist."""
    bucket = require_bucket(context.settings)
    found = await context.database.run(collections.find, bucket=bucket)
    if found is None:
        existing = [collection.bucket for collection in await context.database.run(collections.list_all)]
        raise SettingsError(f"no collection {bucket!r}; existing collections: {', '.join(existing) or 'none'}")
    return found


async def read_status(conn: Connection, collection: Collection) -> Status:
    """Return the collection's counts, speed and costs."""
    return await collection_status.read(conn, collection, factory.model_price(collection.model))


@asynccontextmanager
async def show_progress(context: CommandContext, collection: Collection) -> AsyncIterator[None]:
    """Show the collection's status during the block, updated every second."""

    async def update() -> None:
        while True:
            context.progress.show_status(await context.database.run(read_status, collection))
            await asyncio.sleep(1)

    with context.progress.shown():
        async with asyncio.TaskGroup() as tasks:
            updates = tasks.create_task(update())
            yield
            updates.cancel()
