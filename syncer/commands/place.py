"""`syncer place`: move a collection's vectors in a Citus cluster."""

import argparse
from typing import get_args

from shared.models import Placement
from shared.sql import placement
from syncer import output
from syncer.commands.arguments import add_bucket
from syncer.context import DONE, open_context, require_collection

HELP = "move a collection's vectors to workers of a Citus cluster, or back, while search keeps working"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_bucket(parser)
    parser.add_argument(
        "placement",
        choices=get_args(Placement),
        help="local: on the coordinator, beside everything else; worker: whole, on one worker; sharded: distributed"
        " over all workers",
    )


async def run(arguments: argparse.Namespace) -> int:
    async with open_context(arguments) as context:
        collection = await require_collection(context)
        if collection.placement != arguments.placement:
            await context.database.run(placement.move, collection, arguments.placement)
    output.print_result(
        {"bucket": collection.bucket, "previous_placement": collection.placement, "placement": arguments.placement},
        f"{collection.bucket}: the vectors are {arguments.placement}, they were {collection.placement}",
        as_json=arguments.json,
    )
    return DONE
