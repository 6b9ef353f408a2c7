"""`syncer retry`: put quarantined images back into the queue."""

import argparse

from shared.db.pool import Connection
from shared.sql import queue
from syncer import output, reembedding
from syncer.context import DONE, existing, opened


async def run(arguments: argparse.Namespace) -> int:
    async with opened(arguments) as parts:
        collection = await existing(parts)

        async def put_back(conn: Connection) -> int:
            beside = await reembedding.beside(conn, collection)
            models = [collection.model, *([beside[1].model] if beside else [])]
            return sum([await queue.retry(conn, collection, model, key=arguments.key) for model in models])

        n = await parts.database.run(put_back)
    if arguments.json:
        output.as_json({"bucket": collection.bucket, "retried": n})
    else:
        print(f"{n} put back; `syncer embed --bucket {collection.bucket}` or the next `syncer sync` tries them again")
    return DONE
