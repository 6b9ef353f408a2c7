"""`syncer adopt`: index images that are already in the bucket."""

import argparse
import contextlib

from shared import factory, images
from shared.errors import SettingsError
from shared.retry import outage_policy
from syncer import output
from syncer.bucket.adopter import Adoption
from syncer.bucket.dry_run import BucketPreview
from syncer.commands.arguments import (
    add_bucket,
    add_deletion,
    add_embed_concurrency,
    add_upload_options,
    deletion_policy,
)
from syncer.context import DONE, load_settings, require_bucket
from syncer.progress import Progress
from syncer.sync_run import SyncRun, run_phases

HELP = "index images that are already in the bucket, without uploading them, and embed them"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_bucket(parser)
    parser.add_argument(
        "--prefix", default="", help="index only objects whose keys begin with PREFIX; end a folder's with '/'"
    )
    parser.add_argument(
        "--reclaim",
        action="store_true",
        help="treat objects that this program uploaded as its own again, to rebuild a lost database",
    )
    parser.add_argument("--no-embed", action="store_true", help="only index; `syncer embed` can follow later")
    add_upload_options(parser)
    add_embed_concurrency(parser)
    add_deletion(
        parser,
        "delete adopted images whose objects are gone from the bucket; more than 10 %% of them only with --yes, and"
        " none if the bucket lists no image at all",
    )


async def run(arguments: argparse.Namespace) -> int:
    try:
        arguments.prefix.encode()
    except UnicodeEncodeError as exc:
        raise SettingsError(f"--prefix {arguments.prefix!r} is not valid Unicode, so no key begins with it") from exc
    if arguments.dry_run:
        return await _print_dry_run(arguments)
    return await run_phases(arguments, _adopt, embed=not arguments.no_embed)


async def _adopt(run: SyncRun) -> None:
    arguments = run.arguments
    adoption = Adoption(
        run.collection,
        prefix=arguments.prefix,
        suffixes=images.EXTENSIONS,
        reclaim=arguments.reclaim,
        database=run.context.database,
        store=run.store,
        decoder=run.decoder,
        retry=run.context.retry,
        progress=run.context.progress,
        arrived=run.arrived,
        concurrency=run.context.settings.upload_concurrency,
        derivatives=not arguments.no_derivatives,
        deletion=deletion_policy(arguments),
    )
    if not await adoption.run():
        run.context.progress.say("another adoption of this bucket is running and a second one is queued")
        return
    run.gone, run.withheld = adoption.gone, adoption.withheld
    if adoption.gone and not arguments.delete:
        run.context.progress.say(
            f"the objects of {adoption.gone} adopted images are gone; pass --delete to delete the images"
        )


async def _print_dry_run(arguments: argparse.Namespace) -> int:
    """Print what adopting would do; change neither the bucket nor the database."""
    loaded = load_settings(arguments)
    bucket = require_bucket(loaded)
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
        await output.print_dry_run(preview, as_one_object=arguments.json)
    return DONE
