"""The ``syncer`` command line: parse arguments, run the command, exit with its status."""

import argparse
import asyncio
import logging
import signal
import sys
from collections.abc import Coroutine
from typing import Any, NoReturn, Protocol

from shared.errors import ImageBrowserError
from shared.printable import PrintableFormatter
from shared.shutdown import end_within
from syncer.commands import (
    adopt,
    buckets,
    calibrate,
    doctor,
    drop,
    embed,
    failed,
    migrate,
    place,
    reembed,
    reindex,
    retry,
    status,
    sync,
    tokens,
    upload,
    verify,
)
from syncer.context import COULD_NOT_RUN, INTERRUPTED


class Command(Protocol):
    """Interface of the modules in ``syncer.commands``."""

    HELP: str

    def add_arguments(self, parser: argparse.ArgumentParser) -> None: ...

    async def run(self, arguments: argparse.Namespace) -> int:
        """Run the command and return its exit status."""


COMMANDS: dict[str, Command] = {
    "sync": sync,
    "upload": upload,
    "embed": embed,
    "adopt": adopt,
    "status": status,
    "failed": failed,
    "retry": retry,
    "reembed": reembed,
    "reindex": reindex,
    "place": place,
    "buckets": buckets,
    "drop": drop,
    "tokens": tokens,
    "verify": verify,
    "migrate": migrate,
    "doctor": doctor,
    "calibrate": calibrate,
}

EXIT_STATUS = """exit status:
  0    success
  1    could not run (a connection or a setting)
  2    wrong usage
  3    finished, but some images failed (`syncer failed` lists them)
  130  interrupted; the same command resumes
"""


_SECONDS_TO_STOP = 10.0  # after an interruption


def main() -> NoReturn:
    """Run the command named by the arguments and exit with its status."""
    arguments = _parser().parse_args()
    handler = logging.StreamHandler()
    handler.setFormatter(PrintableFormatter("%(levelname)s %(name)s: %(message)s"))
    logging.basicConfig(level=logging.WARNING, handlers=[handler])
    try:
        exit_status = asyncio.run(_interruptible(arguments.run(arguments)))
    except ImageBrowserError as exc:
        print(f"syncer: {exc}", file=sys.stderr)
        exit_status = COULD_NOT_RUN
    except (asyncio.CancelledError, KeyboardInterrupt):
        print("syncer: interrupted; the same command resumes", file=sys.stderr)
        exit_status = INTERRUPTED
    except MemoryError:
        print("syncer: memory ran out; docs/deploy.md says how much each command needs", file=sys.stderr)
        exit_status = COULD_NOT_RUN
    sys.exit(exit_status)


async def _interruptible(command: Coroutine[Any, Any, int]) -> int:
    """Run *command* as a task that SIGINT and SIGTERM cancel, so that it releases its leases."""
    task = asyncio.ensure_future(command)
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, task.cancel)
    # Leases and locks expire without us.
    end_within(_SECONDS_TO_STOP, status=INTERRUPTED)
    try:
        return await task
    except BaseExceptionGroup as group:
        raise _error_to_report(group) from group


def _error_to_report(group: BaseExceptionGroup[BaseException]) -> BaseException:
    """Return the first error in *group* that is written for users, or the first of any kind."""
    error: BaseException = group.subgroup(ImageBrowserError) or group
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return error


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="syncer",
        description="Upload images to a bucket and compute the vectors that make them searchable.",
        epilog=EXIT_STATUS,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    subparsers = parser.add_subparsers(metavar="COMMAND", required=True)
    for name, command in COMMANDS.items():
        subparser = subparsers.add_parser(
            name,
            help=command.HELP,
            description=f"{command.HELP[0].upper()}{command.HELP[1:]}.",
            epilog=EXIT_STATUS,
            formatter_class=argparse.RawDescriptionHelpFormatter,
        )
        command.add_arguments(subparser)
        subparser.add_argument("--json", action="store_true", help="print the result as one JSON object on stdout")
        subparser.set_defaults(run=command.run)
    return parser
