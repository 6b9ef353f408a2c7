"""`syncer migrate`: apply missing migrations."""

import argparse

from shared import factory
from shared.db.migrate import migrate as apply_migrations
from syncer import output
from syncer.context import DONE, load


async def run(arguments: argparse.Namespace) -> int:
    async with factory.open_database(load(arguments), max_connections=1, retry_timeout=30) as database:
        done = await database.run(apply_migrations)
    if arguments.json:
        output.as_json({"applied": done})
    else:
        print("\n".join(f"applied {name}" for name in done) or "nothing to apply")
    return DONE
