"""`syncer migrate`: apply pending migrations."""

import argparse

from shared import factory
from shared.db.migrate import migrate
from syncer import output
from syncer.context import DONE, load_settings

HELP = "apply pending database migrations"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    pass


async def run(arguments: argparse.Namespace) -> int:
    async with factory.open_database(load_settings(arguments), max_connections=1, retry_timeout=30) as database:
        applied = await database.run(migrate)
    lines = [f"applied {name}" for name in applied] or ["no pending migrations"]
    output.print_result({"applied": applied}, *lines, as_json=arguments.json)
    return DONE
