"""`syncer upload`: upload new and changed images."""

import argparse

from syncer.commands.sync import add_folder_arguments, run_folder_command

HELP = "upload new and changed images without embedding them"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_folder_arguments(parser)


async def run(arguments: argparse.Namespace) -> int:
    return await run_folder_command(arguments, embed=False)
