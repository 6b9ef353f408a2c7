"""`syncer status`: show the progress of collections."""

import argparse
from typing import Any

from shared.collection_status import Status
from shared.db.pool import Connection
from shared.models import Collection, NextEmbeddings
from shared.sql import collections
from syncer import output, reembedding
from syncer.commands.arguments import add_bucket
from syncer.context import DONE, open_context, read_status, require_collection

HELP = "show counts, speed, time left, costs and failures of each collection"

Rows = list[tuple[Status, tuple[NextEmbeddings, Status] | None]]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_bucket(parser, "show only this bucket")


async def run(arguments: argparse.Namespace) -> int:
    async with open_context(arguments) as context:
        selected = (
            [await require_collection(context)]
            if arguments.bucket
            else await context.database.run(collections.list_all)
        )
        rows = await context.database.run(_read, selected)
    if arguments.json:
        output.print_json({"buckets": [_as_json(*row) for row in rows]})
    else:
        output.print_status([row for row, _ in rows], {row.bucket: beside for row, beside in rows if beside})
    return DONE


async def _read(conn: Connection, selected: list[Collection]) -> Rows:
    rows: Rows = []
    for collection in selected:
        status = await read_status(conn, collection)
        beside = await reembedding.find_next(conn, collection)
        rows.append((status, (beside[0], await read_status(conn, beside[1])) if beside else None))
    return rows


def _as_json(status: Status, beside: tuple[NextEmbeddings, Status] | None) -> dict[str, Any]:
    return status.as_json() | {"beside": beside[1].as_json() | {"state": beside[0].state} if beside else None}
