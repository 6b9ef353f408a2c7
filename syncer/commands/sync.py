"""`syncer sync`: upload new and changed images, and embed until nothing is pending."""

import argparse

from syncer.commands.arguments import add_embed_concurrency
from syncer.commands.folder_arguments import add_folder_arguments, print_dry_run, resolved_folder, sync_folder
from syncer.sync_run import run_phases

HELP = "upload new and changed images and embed until nothing is pending"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_folder_arguments(parser)
    parser.add_argument("--watch", action="store_true", help="keep running and sync changes within a second")
    add_embed_concurrency(parser)


async def run(arguments: argparse.Namespace) -> int:
    folder = resolved_folder(arguments.folder)
    if arguments.dry_run:
        return await print_dry_run(arguments, folder)
    return await run_phases(arguments, sync_folder, bucket=folder.name)
