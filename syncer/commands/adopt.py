"""`syncer adopt`: index images that are already in the bucket."""

import argparse

from shared.errors import SettingsError
from syncer import output
from syncer.bucket.adopter import AdoptionOptions, BucketAdopter
from syncer.bucket.planner import BucketPlanner
from syncer.bucket.scan import SOURCE, BucketScan
from syncer.commands.arguments import (
    add_bucket,
    add_deletion,
    add_embed_concurrency,
    add_upload_options,
    add_verbose,
    deletion_policy,
)
from syncer.context import DONE, open_context, require_bucket
from syncer.source import find_source
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
    add_verbose(parser, "name each skipped object")
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
    arguments, context = run.arguments, run.context
    options = AdoptionOptions(
        prefix=arguments.prefix,
        reclaim=arguments.reclaim,
        concurrency=context.settings.upload_concurrency,
        derivatives=not arguments.no_derivatives,
        deletion=deletion_policy(arguments),
    )
    adopter = BucketAdopter(run.target, options)
    if not await adopter.run():
        context.progress.say("another adoption of this bucket is running and a second one is queued")
        return
    run.gone, run.withheld = adopter.gone, adopter.withheld
    if adopter.gone and not arguments.delete:
        context.progress.say(
            f"the objects of {adopter.gone} adopted images are gone; pass --delete to delete the images"
        )


async def _print_dry_run(arguments: argparse.Namespace) -> int:
    """Print what adopting would do; change neither the bucket nor the database."""
    async with open_context(arguments, schema="ignore") as context:
        bucket = require_bucket(context.settings)
        store = await context.open_store(bucket)
        source = await find_source(context.database, bucket, SOURCE)
        scan = BucketScan(store, arguments.prefix, source=source, retry=context.retry)
        plan = BucketPlanner(scan, deletion_policy(arguments))
        await output.print_dry_run(bucket, plan, verbose=arguments.verbose, as_json=arguments.json)
    return DONE
