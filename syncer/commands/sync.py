"""`syncer sync`: upload new and changed images, and embed until nothing is pending."""

import argparse
from dataclasses import replace
from functools import partial
from pathlib import Path

from shared import factory, images
from shared.db import table_names
from shared.errors import SettingsError
from syncer import output
from syncer.commands.arguments import (
    add_bucket,
    add_deletion,
    add_embed_concurrency,
    add_upload_options,
    add_verbose,
    deletion_policy,
)
from syncer.context import DONE, load_settings
from syncer.folder.ignore import IGNORE_FILE, Selection
from syncer.folder.options import FolderOptions
from syncer.folder.planner import Planner
from syncer.folder.sync import FolderSync
from syncer.folder.watcher import StabilityCheck, Watch
from syncer.marker import write_marker
from syncer.settings import SyncerSettings
from syncer.source import default_name, find_source
from syncer.sync_run import SyncRun, run_phases

HELP = "upload new and changed images and embed until nothing is pending"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_folder_arguments(parser)
    parser.add_argument("--watch", action="store_true", help="keep running and sync changes within a second")
    add_embed_concurrency(parser)


async def run(arguments: argparse.Namespace) -> int:
    return await run_folder_command(arguments, embed=True)


def add_folder_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("folder", metavar="DIR", type=Path, help="folder of images, including its subfolders")
    add_bucket(parser, "name of the bucket (default: $BUCKET, else the folder's name)")
    parser.add_argument(
        "--source",
        metavar="NAME",
        help="name of this folder, needed if host or path change between runs (default: HOST:DIR)",
    )
    add_upload_options(parser)
    parser.add_argument(
        "--include", action="append", default=[], metavar="PATTERN", help="sync only files that match (repeatable)"
    )
    parser.add_argument(
        "--exclude",
        action="append",
        default=[],
        metavar="PATTERN",
        help=f"skip files and folders that match (repeatable). Patterns here and in {IGNORE_FILE} files have gitignore"
        " syntax; images of skipped files are never deleted",
    )
    parser.add_argument(
        "--follow-links",
        action="store_true",
        help="follow symbolic links out of the folder as well, which publishes what they lead to",
    )
    add_verbose(parser, "name each skipped file")
    add_deletion(
        parser,
        "delete images whose files are gone from this folder; more than 10 %% of them, or all of an emptied folder,"
        " only with --yes",
    )


async def run_folder_command(arguments: argparse.Namespace, *, embed: bool) -> int:
    """Sync the folder, or print what a sync would do; return the exit status."""
    # With links resolved, every path to the folder names the same source.
    folder: Path = arguments.folder.expanduser().resolve()
    if not folder.is_dir():
        raise SettingsError(f"{arguments.folder} is not a folder: pass the folder with the images")
    if arguments.dry_run:
        return await _print_dry_run(arguments, folder)
    return await run_phases(arguments, partial(_sync, folder), bucket=folder.name, embed=embed)


async def _sync(folder: Path, run: SyncRun) -> None:
    """Sync the folder once, or with ``--watch`` until the process is interrupted."""
    settings = run.context.settings
    options = _options(run.arguments, folder, settings)
    await run.context.retry.run(write_marker, run.context.database, run.target.store, run.target.collection)
    if getattr(run.arguments, "watch", False):  # `syncer upload` has no such argument
        stability = StabilityCheck()
        sync = FolderSync(replace(options, is_stable=stability.is_stable), run.target)
        await Watch(sync, stability, rescan=settings.watch_rescan_seconds).run()
    sync = FolderSync(options, run.target)
    if not await sync.run():
        run.context.progress.say("another sync of this folder is running and a second one is queued")
    run.withheld = sync.withheld


async def _print_dry_run(arguments: argparse.Namespace, folder: Path) -> int:
    """Print what a sync would do; change neither the bucket nor the database."""
    settings = load_settings(arguments)
    bucket = table_names.check_bucket(settings.bucket or folder.name)
    options = _options(arguments, folder, settings)
    retry_timeout = settings.outage_patience(reads_only=True)
    async with factory.open_database(settings, max_connections=2, retry_timeout=retry_timeout) as database:
        plan = Planner(options, await find_source(database, bucket, options.source))
        await output.print_dry_run(bucket, plan, verbose=arguments.verbose, as_json=arguments.json)
    return DONE


def _options(arguments: argparse.Namespace, folder: Path, settings: SyncerSettings) -> FolderOptions:
    return FolderOptions(
        folder,
        source=arguments.source or default_name(folder),
        selection=Selection(
            folder,
            images.EXTENSIONS,
            include=arguments.include,
            exclude=arguments.exclude,
            follow_links=arguments.follow_links,
        ),
        concurrency=settings.upload_concurrency,
        derivatives=not arguments.no_derivatives,
        deletion=deletion_policy(arguments),
    )
