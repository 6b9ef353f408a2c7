"""What `syncer sync` and `syncer upload` share."""

import argparse
import socket
from pathlib import Path

from shared import factory, images
from shared.db import table_names
from shared.errors import SettingsError
from syncer import output
from syncer.commands.arguments import add_bucket, add_deletion, add_upload_options, deletion_policy
from syncer.context import DONE, load_settings
from syncer.folder.dry_run import Preview
from syncer.folder.executor import Uploader
from syncer.folder.ignore import IGNORE_FILE, Selection
from syncer.folder.watcher import Settling, Watch
from syncer.sync_run import SyncRun


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
    add_deletion(
        parser,
        "delete images whose files are gone from this folder; more than 10 %% of them, or all of an emptied folder,"
        " only with --yes",
    )


def resolved_folder(path: Path) -> Path:
    """Return the folder with links resolved, so that it is the same source whichever way it is named."""
    folder = path.expanduser().resolve()
    if not folder.is_dir():
        raise SettingsError(f"{path} is no folder: give the folder that holds the images")
    return folder


async def sync_folder(folder: Path, run: SyncRun) -> None:
    arguments, settings = run.arguments, run.context.settings
    # Only `syncer sync` can watch.
    watch: bool = getattr(arguments, "watch", False)
    selection, settling = _selection(arguments, folder), Settling()
    uploader = Uploader(
        folder,
        run.collection,
        source=_source(arguments, folder),
        selection=selection,
        database=run.context.database,
        store=run.store,
        decoder=run.decoder,
        retry=run.context.retry,
        progress=run.context.progress,
        arrived=run.arrived,
        concurrency=settings.upload_concurrency,
        derivatives=not arguments.no_derivatives,
        deletion=deletion_policy(arguments),
        at_rest=settling.at_rest if watch else lambda file: True,
    )
    if watch:
        shown, rescan = run.context.progress, settings.watch_rescan_seconds
        await Watch(folder, selection, uploader, settling, shown, rescan=rescan).run()
    if not await uploader.run():
        run.context.progress.say("another syncer is bringing this folder over, and a further one waits to be next")
    run.withheld = uploader.withheld


def _source(arguments: argparse.Namespace, folder: Path) -> str:
    return arguments.source or f"{socket.gethostname()}:{folder}"


def _selection(arguments: argparse.Namespace, folder: Path) -> Selection:
    return Selection(folder, images.EXTENSIONS, include=arguments.include, exclude=arguments.exclude)


async def print_dry_run(arguments: argparse.Namespace, folder: Path) -> int:
    """Say what a run would do; neither the bucket nor the database is changed."""
    loaded = load_settings(arguments)
    bucket = table_names.check_bucket(loaded.bucket or folder.name)
    retry_timeout = loaded.outage_patience_seconds
    async with factory.open_database(loaded, max_connections=2, retry_timeout=retry_timeout) as database:
        preview = Preview(
            folder,
            bucket,
            source=_source(arguments, folder),
            selection=_selection(arguments, folder),
            database=database,
            deletion=deletion_policy(arguments),
        )
        await output.print_dry_run(preview, as_one_object=arguments.json)
    return DONE
