"""`syncer sync`: upload new and changed images, and embed until nothing is pending."""

import argparse

from syncer.commands.arguments import add_embed_concurrency
from syncer.commands.folder_arguments import add_folder_arguments, run_folder_command

HELP = "upload new and changed images and embed until nothing is pending"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_folder_arguments(parser)
    parser.add_argument("--watch", action="store_true", help="keep running and sync changes within a second")
    add_embed_concurrency(parser)


async def run(arguments: argparse.Namespace) -> int:
    return await run_folder_command(arguments, embed=True)
