"""`syncer status`: show how far collections are."""

import argparse

from shared.collection_status import Status
from shared.db.pool import Connection
from shared.models import NextEmbeddings
from shared.sql import collections
from syncer import output, reembedding
from syncer.context import DONE, existing, opened, read


async def run(arguments: argparse.Namespace) -> int:
    async with opened(arguments) as parts:
        chosen = [await existing(parts)] if arguments.bucket else await parts.database.run(collections.list_all)

        async def every(conn: Connection) -> list[tuple[Status, tuple[NextEmbeddings, Status] | None]]:
            rows = []
            for c in chosen:
                found = await reembedding.beside(conn, c)
                rows.append((await read(conn, c), (found[0], await read(conn, found[1])) if found else None))
            return rows

        rows = await parts.database.run(every)
    if arguments.json:
        output.as_json(
            {
                "buckets": [
                    row.as_json() | {"beside": beside[1].as_json() | {"state": beside[0].state} if beside else None}
                    for row, beside in rows
                ]
            }
        )
    else:
        output.status([row for row, _ in rows], {row.bucket: beside for row, beside in rows if beside})
    return DONE
