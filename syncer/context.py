"""What commands work with, made of their arguments and the settings."""

import argparse
import asyncio
import math
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import timedelta

from shared import collection_status, factory, settings
from shared.collection_status import Status
from shared.db import migrate, table_names
from shared.db.pool import Connection, Database
from shared.embedders.base import Embedder
from shared.errors import SettingsError
from shared.images.worker_pool import DecoderPool
from shared.models import Collection
from shared.retry import RetryPolicy, outage_policy
from shared.sql import collections
from shared.stores.base import ObjectStore
from syncer.embedding import Embedding, Policy
from syncer.progress import Progress
from syncer.settings import SyncerSettings

DONE, COULD_NOT_RUN, WRONG_USAGE, SOME_FAILED, INTERRUPTED = 0, 1, 2, 3, 130


@dataclass
class CommandContext:
    """What a command works with."""

    settings: SyncerSettings
    database: Database
    progress: Progress
    retry: RetryPolicy


def load(arguments: argparse.Namespace) -> SyncerSettings:
    """Return the settings; what the arguments name wins over the environment."""
    flags = ("bucket", "upload_concurrency", "embed_concurrency", "embedder")
    return settings.load(SyncerSettings, **{flag: getattr(arguments, flag, None) for flag in flags})


@asynccontextmanager
async def opened(arguments: argparse.Namespace) -> AsyncIterator[CommandContext]:
    """The database, migrated, and what shows progress."""
    loaded = load(arguments)
    shown = Progress(quiet=arguments.json)
    retry_timeout = math.inf if getattr(arguments, "watch", False) else loaded.outage_patience_seconds
    connections = loaded.upload_concurrency + loaded.embed_concurrency + 3
    async with factory.open_database(
        loaded, max_connections=connections, retry_timeout=retry_timeout, report=shown.waiting
    ) as database:
        await database.run(migrate.migrate)
        yield CommandContext(loaded, database, shown, outage_policy(retry_timeout, shown.waiting))


def bucket_of(loaded: SyncerSettings, default: str | None = None) -> str:
    """Return the bucket that is asked for, or *default*; raise SettingsError where there is neither."""
    bucket = loaded.bucket or default
    if not bucket:
        raise SettingsError("no bucket is named: give --bucket NAME, or set BUCKET")
    return bucket


async def existing(parts: CommandContext) -> Collection:
    """Return the collection that is asked for, which must be there."""
    bucket = table_names.check_bucket(bucket_of(parts.settings))
    found = await parts.database.run(collections.find, bucket=bucket)
    if found is None:
        known = [c.bucket for c in await parts.database.run(collections.list_all)]
        raise SettingsError(f"there is no collection {bucket!r}; there are: {', '.join(known) or 'none'}")
    return found


def embedder_for(parts: CommandContext, model: str | None, bucket: str, decoder: DecoderPool) -> Embedder:
    """Return the embedder of a collection that has *model*, or of a new one; refuse one that does not fit."""
    concurrency = parts.settings.embed_concurrency
    if model and not parts.settings.embedder:
        embedder = factory.embedder_for_model(parts.settings, model, decoder, concurrency=concurrency)
    else:
        kind = parts.settings.default_embedder
        embedder = factory.make_embedder(parts.settings, kind, decoder, concurrency=concurrency)
    if model:
        factory.check_same_model(embedder, bucket=bucket, model=model)
    if embedder.notice:
        parts.progress.say(embedder.notice)
    return embedder


def embedding_of(parts: CommandContext, collection: Collection, embedder: Embedder, store: ObjectStore) -> Embedding:
    """Return a run over the collection, with the retry_timeout and the concurrency of the settings."""
    return Embedding(
        collection,
        embedder,
        database=parts.database,
        store=store,
        retry=parts.retry,
        progress=parts.progress,
        # The embedder itself makes no more calls at once than it may; more workers decode meanwhile.
        workers=2 * parts.settings.embed_concurrency,
        policy=Policy(
            lease=timedelta(seconds=parts.settings.lease_seconds),
            attempts=parts.settings.image_attempts,
            retry_delay=timedelta(seconds=parts.settings.image_retry_seconds),
        ),
    )


async def read(conn: Connection, collection: Collection) -> Status:
    """Return how far the collection is."""
    return await collection_status.read(conn, collection, factory.model_price(collection.model))


async def measure(parts: CommandContext, collection: Collection) -> None:
    """Show how far the collection is, each second."""
    while True:
        parts.progress.measured(await parts.database.run(read, collection=collection))
        await asyncio.sleep(1)
