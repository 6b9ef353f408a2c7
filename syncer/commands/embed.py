"""`syncer embed`: the second phase alone."""

import argparse

from syncer.sync_run import run_phases


async def run(arguments: argparse.Namespace) -> int:
    return await run_phases(arguments)
