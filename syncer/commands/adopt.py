"""`syncer adopt`: index what already lies in a bucket."""

import argparse
import contextlib

from shared import factory, images
from shared.db import table_names
from shared.errors import SettingsError
from shared.retry import outage_policy
from syncer import output
from syncer.bucket.adopter import Adoption
from syncer.commands.folder_arguments import deletion_policy
from syncer.context import (
    DONE,
    bucket_of,
    load,
)
from syncer.folder.dry_run import BucketPreview
from syncer.progress import Progress
from syncer.sync_run import SyncRun, run_phases


async def run(arguments: argparse.Namespace) -> int:
    try:
        arguments.prefix.encode()
    except UnicodeEncodeError as exc:
        raise SettingsError(f"--prefix is {arguments.prefix!r}, which is not valid Unicode, as all keys are") from exc
    if arguments.dry_run:
        return await _dry_run_bucket(arguments)
    return await run_phases(arguments, _adopt_bucket, embed=not arguments.no_embed)


async def _adopt_bucket(run: SyncRun) -> None:
    arguments = run.arguments
    adoption = Adoption(
        run.collection,
        prefix=arguments.prefix,
        suffixes=images.EXTENSIONS,
        reclaim=arguments.reclaim,
        database=run.parts.database,
        store=run.store,
        decoder=run.decoder,
        retry=run.parts.retry,
        progress=run.parts.progress,
        arrived=run.arrived,
        concurrency=run.parts.settings.upload_concurrency,
        derivatives=not arguments.no_derivatives,
        deletion=deletion_policy(arguments),
    )
    if not await adoption.run():
        run.parts.progress.say("another syncer is indexing this bucket, and a further one waits to be next")
        return
    run.gone, run.withheld = adoption.gone, adoption.withheld
    if adoption.gone and not arguments.delete:
        run.parts.progress.say(
            f"gone from the bucket: {adoption.gone} of the images that were adopted; --delete removes them here, too"
        )


async def _dry_run_bucket(arguments: argparse.Namespace) -> int:
    """Say what adopting would do; neither the bucket nor the database is changed."""
    loaded = load(arguments)
    bucket = table_names.check_bucket(bucket_of(loaded))
    retry_timeout, waiting = loaded.outage_patience_seconds, Progress(quiet=arguments.json).waiting
    async with (
        factory.open_database(loaded, max_connections=2, retry_timeout=retry_timeout, report=waiting) as database,
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
            deletion=deletion_policy(arguments),
        )
        await output.dry_run(preview, as_one_object=arguments.json)
    return DONE
