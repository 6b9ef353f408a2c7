"""`syncer upload`: upload new and changed images."""

import argparse

from syncer.commands.folder_arguments import add_folder_arguments, print_dry_run, resolved_folder, sync_folder
from syncer.sync_run import run_phases

HELP = "upload new and changed images without embedding them"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_folder_arguments(parser)


async def run(arguments: argparse.Namespace) -> int:
    folder = resolved_folder(arguments.folder)
    if arguments.dry_run:
        return await print_dry_run(arguments, folder)
    return await run_phases(arguments, sync_folder, bucket=folder.name, embed=False)
