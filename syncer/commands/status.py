"""`syncer status`: show the progress of collections."""

import argparse
from typing import Any

from shared.collection_status import Status
from shared.db.pool import Connection
from shared.models import Collection
from shared.sql import collections
from syncer import output, reembedding
from syncer.commands.arguments import add_bucket
from syncer.context import DONE, open_context, read_status, require_collection
from syncer.output import ReEmbedding

HELP = "show counts, speed, time left, costs and failures of each collection"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_bucket(parser, "show only this bucket")


async def run(arguments: argparse.Namespace) -> int:
    async with open_context(arguments) as context:
        if arguments.bucket:
            selected = [await require_collection(context)]
        else:
            selected = await context.database.run(collections.list_all)
        rows = [await context.database.run(_read, collection) for collection in selected]
    if arguments.json:
        output.print_json({"buckets": [_as_json(*row) for row in rows]})
        return DONE
    if not rows:
        print("no collections; `syncer sync DIR --bucket NAME` creates one")
    for status, re_embedding in rows:
        output.print_status(status, re_embedding)
    return DONE


async def _read(conn: Connection, collection: Collection) -> tuple[Status, ReEmbedding | None]:
    status = await read_status(conn, collection)
    following = await reembedding.find_next(conn, collection)
    if following is None:
        return status, None
    found, target = following
    return status, ReEmbedding(found.state, await read_status(conn, target))


def _as_json(status: Status, re_embedding: ReEmbedding | None) -> dict[str, Any]:
    second = re_embedding.status.as_json() | {"state": re_embedding.state} if re_embedding else None
    return status.as_json() | {"beside": second}
