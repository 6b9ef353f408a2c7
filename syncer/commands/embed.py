"""`syncer embed`: the embedding phase alone."""

import argparse

from syncer.commands.arguments import add_bucket, add_embed_concurrency
from syncer.sync_run import run_phases

HELP = "embed pending images until none is left; any number of these may run at once"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_bucket(parser)
    add_embed_concurrency(parser)


async def run(arguments: argparse.Namespace) -> int:
    return await run_phases(arguments)
