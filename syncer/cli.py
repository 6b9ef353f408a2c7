"""The command line: which commands there are, their arguments, and how a run ends."""

import argparse
import asyncio
import contextlib
import logging
import signal
import sys
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any, NoReturn, get_args

from shared import settings
from shared.errors import ImageBrowserError
from syncer.commands import (
    adopt,
    buckets,
    calibrate,
    doctor,
    drop,
    embed,
    failed,
    migrate,
    reembed,
    retry,
    status,
    sync,
    upload,
)
from syncer.context import COULD_NOT_RUN, INTERRUPTED
from syncer.folder.ignore import IGNORE_FILE

EXIT_STATUS = """exit status:
  0    all done
  1    could not run: a connection, a setting
  2    wrong usage
  3    finished, but some images failed (`syncer failed` lists them)
  130  interrupted; nothing is lost, the same command resumes
"""


def main() -> NoReturn:
    """Run the command that the arguments name, and exit with its status."""
    arguments = _parser().parse_args()
    logging.basicConfig(level=logging.WARNING, format="%(levelname)s %(name)s: %(message)s")
    try:
        status = asyncio.run(_interruptible(arguments.command(arguments)))
    except ImageBrowserError as exc:
        print(f"syncer: {exc}", file=sys.stderr)
        status = COULD_NOT_RUN
    except (asyncio.CancelledError, KeyboardInterrupt):
        print("syncer: interrupted; the same command resumes", file=sys.stderr)
        status = INTERRUPTED
    sys.exit(status)


async def _interruptible(command: Coroutine[Any, Any, int]) -> int:
    """Run *command*; SIGINT and SIGTERM cancel it, so that what is in hand is given back."""
    task = asyncio.ensure_future(command)
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        with contextlib.suppress(NotImplementedError):
            loop.add_signal_handler(number, task.cancel)
    try:
        return await task
    except BaseExceptionGroup as group:
        raise _first(group) from group


def _first(group: BaseExceptionGroup[BaseException]) -> BaseException:
    """Return what is to be said of several failures at once: the first that has a sentence of its own."""
    leaves: list[BaseException] = []

    def collect(error: BaseException) -> None:
        if isinstance(error, BaseExceptionGroup):
            for inner in error.exceptions:
                collect(inner)
        else:
            leaves.append(error)

    collect(group)
    return next((error for error in leaves if isinstance(error, ImageBrowserError)), leaves[0])


# --- arguments ----------------------------------------------------------------------------------------------------


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="syncer",
        description="Uploads images to a bucket and fills the vectors that searches compare.",
        epilog=EXIT_STATUS,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    commands = parser.add_subparsers(metavar="COMMAND", required=True)

    def add(
        name: str, run: Callable[[argparse.Namespace], Coroutine[Any, Any, int]], help: str
    ) -> argparse.ArgumentParser:
        command = commands.add_parser(
            name,
            help=help,
            description=help[0].upper() + help[1:] + ".",
            epilog=EXIT_STATUS,
            formatter_class=argparse.RawDescriptionHelpFormatter,
        )
        command.add_argument(
            "--json", action="store_true", help="print one JSON object on standard output, nothing else"
        )
        command.set_defaults(command=run)
        return command

    def add_care(command: argparse.ArgumentParser) -> None:
        command.add_argument("--yes", action="store_true", help="with --delete: however many they are")
        command.add_argument("--dry-run", action="store_true", help="say what would be done, and do nothing")

    def add_folder(command: argparse.ArgumentParser) -> None:
        command.add_argument("folder", metavar="DIR", type=Path, help="the folder of images, taken with its subfolders")
        command.add_argument("--bucket", help="the bucket (default: BUCKET, else the folder's name)")
        command.add_argument("--source", help="what this folder is known by, where host and path change between runs")
        command.add_argument("--upload-concurrency", type=int, metavar="N", help="uploads at once (8)")
        command.add_argument("--no-derivatives", action="store_true", help="make no thumbnails and previews")
        command.add_argument(
            "--include", action="append", default=[], metavar="PATTERN", help="take only files that match (repeatable)"
        )
        command.add_argument(
            "--exclude",
            action="append",
            default=[],
            metavar="PATTERN",
            help=f"leave files and folders out (repeatable), as patterns in files named {IGNORE_FILE} do; patterns are"
            " those of gitignore; what is left out is not looked at, and so never deleted",
        )
        command.add_argument(
            "--delete",
            action="store_true",
            help="remove the images that this folder brought and no longer holds; never more than a tenth of them,"
            " nor those of a folder that is empty now, without --yes",
        )
        add_care(command)

    sync_parser = add("sync", sync.run, "upload what is new or changed, and embed until nothing is pending")
    add_folder(sync_parser)
    sync_parser.add_argument("--watch", action="store_true", help="keep running, and pick changes up within a second")
    sync_parser.add_argument("--embed-concurrency", type=int, metavar="N", help="model calls at once (3)")
    upload_parser = add("upload", upload.run, "upload what is new or changed, without embedding it")
    add_folder(upload_parser)
    adopt_parser = add(
        "adopt", adopt.run, "index what already lies in a bucket, without uploading it again, and embed it"
    )
    adopt_parser.add_argument("--bucket", help="the bucket (default: BUCKET)")
    adopt_parser.add_argument(
        "--prefix", default="", help="only objects whose keys begin so; for a folder end it with '/'"
    )
    adopt_parser.add_argument(
        "--reclaim",
        action="store_true",
        help="what carries this program's marks is the collection's own again: to rebuild a lost database",
    )
    adopt_parser.add_argument("--no-embed", action="store_true", help="index alone; `syncer embed` does the rest")
    adopt_parser.add_argument("--upload-concurrency", type=int, metavar="N", help="objects read at once (8)")
    adopt_parser.add_argument("--embed-concurrency", type=int, metavar="N", help="model calls at once (3)")
    adopt_parser.add_argument(
        "--no-derivatives",
        action="store_true",
        help="make no thumbnails and previews: for a bucket that is not to be written to",
    )
    adopt_parser.add_argument(
        "--delete",
        action="store_true",
        help="remove adopted images whose objects are gone from the bucket; never more than a tenth of them without"
        " --yes, and none if no image is left there at all",
    )
    add_care(adopt_parser)
    embed_parser = add("embed", embed.run, "embed until nothing is pending; any number of these may run at once")
    embed_parser.add_argument("--bucket", help="the bucket (default: BUCKET)")
    embed_parser.add_argument("--embed-concurrency", type=int, metavar="N", help="model calls at once (3)")
    status_parser = add("status", status.run, "show how far collections are")
    status_parser.add_argument("--bucket", help="only this bucket")
    failed_parser = add("failed", failed.run, "list the images that were given up, and why")
    failed_parser.add_argument("--bucket", help="the bucket (default: BUCKET)")
    retry_parser = add("retry", retry.run, "put images that were given up back into the queue")
    retry_parser.add_argument("--bucket", help="the bucket (default: BUCKET)")
    retry_parser.add_argument("--key", help="only this image")
    again = add(
        "reembed",
        reembed.run,
        "give a collection the vectors of another model, while searches go on",
    )
    again.add_argument("--bucket", help="the bucket (default: BUCKET)")
    what = again.add_mutually_exclusive_group()
    what.add_argument("--embedder", choices=get_args(settings.EmbedderKind), help="the model (default: EMBEDDER)")
    what.add_argument("--rollback", action="store_true", help="switch back to the previous model's vectors")
    what.add_argument(
        "--forget",
        action="store_true",
        help="remove the vectors beside those in use: of a re-embedding that is given up, or of the previous model",
    )
    again.add_argument("--yes", action="store_true", help="switch also if more than a tenth of the vectors are lost")
    drop_parser = add("drop", drop.run, "remove a collection: its rows, and the objects that were put there for it")
    drop_parser.add_argument("--bucket", help="the bucket (default: BUCKET)")
    drop_parser.add_argument("--yes", action="store_true", help="really do it")
    drop_parser.add_argument("--keep-objects", action="store_true", help="remove the rows alone")
    calibrate_parser = add("calibrate", calibrate.run, "measure what nonsense scores, so that weak matches show")
    calibrate_parser.add_argument("--bucket", help="the bucket (default: BUCKET)")
    add("doctor", doctor.run, "check every setting and connection, and say what to do")
    add("buckets", buckets.run, "list collections")
    add("migrate", migrate.run, "bring the database to the form that this version expects")
    return parser
