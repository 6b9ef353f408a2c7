"""`syncer reindex`: change the kind of a collection's vector index."""

import argparse
from dataclasses import asdict
from typing import get_args

from shared.models import IndexKind
from shared.sql import vector_index
from syncer import index_builder, output
from syncer.commands.arguments import add_bucket
from syncer.context import DONE, open_context, require_collection

HELP = "change the kind of a collection's vector index, or repair it, while search keeps working"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_bucket(parser)
    parser.add_argument(
        "--index",
        choices=get_args(IndexKind),
        help="hnsw: the graph that new collections get; compact: a graph of one bit per dimension, a seventh as large,"
        " which misses more images; vchordrq: VectorChord's index, if PostgreSQL has it (default: the present kind)",
    )


async def run(arguments: argparse.Namespace) -> int:
    async with open_context(arguments) as context:
        collection = await require_collection(context)
        await index_builder.change_index(context, collection, arguments.index or collection.index_kind)
        state = await context.database.run(vector_index.find, await require_collection(context))
    output.print_result(
        {"bucket": collection.bucket, "previous_index": collection.index_kind, "index": asdict(state)},
        f"{collection.bucket}: the {state.kind} index is {state.state}",
        as_json=arguments.json,
    )
    return DONE
