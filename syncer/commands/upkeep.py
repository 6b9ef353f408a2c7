"""The commands that look at collections, mend them and remove them."""

import argparse
import contextlib

from shared import factory
from shared.collection_status import Status
from shared.db.migrate import migrate as apply_migrations
from shared.db.pool import Connection
from shared.embedders.base import HasBackground
from shared.errors import SettingsError
from shared.images.worker_pool import DecoderPool
from shared.models import NextEmbeddings
from shared.sql import collections, queue, stats
from syncer import output, reembedding
from syncer.calibration import calibrate as measure
from syncer.context import COULD_NOT_RUN, DONE, embedder_for, existing, load, opened, read
from syncer.doctor import examine
from syncer.drop import drop_objects


async def status(arguments: argparse.Namespace) -> int:
    async with opened(arguments) as parts:
        chosen = [await existing(parts)] if arguments.bucket else await parts.database.run(collections.every)

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


async def failed(arguments: argparse.Namespace) -> int:
    async with opened(arguments) as parts:
        collection = await existing(parts)
        rows = await parts.database.run(queue.failures, collection=collection, model=collection.model)
    if arguments.json:
        output.as_json({"bucket": collection.bucket, "failed": [vars(row) for row in rows]})
    else:
        output.failures(rows)
    return DONE


async def retry(arguments: argparse.Namespace) -> int:
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


async def calibrate(arguments: argparse.Namespace) -> int:
    async with opened(arguments) as parts, contextlib.AsyncExitStack() as stack:
        collection = await existing(parts)
        decoder = DecoderPool()
        stack.push_async_callback(decoder.close)
        embedder = embedder_for(parts, collection.model, collection.bucket, decoder)
        stack.push_async_callback(embedder.close)
        measured = await measure(parts.database, collection, embedder)
    if arguments.json:
        output.as_json({"bucket": collection.bucket, "model": embedder.name} | vars(measured))
    else:
        output.calibration(collection, measured, own_background=isinstance(embedder, HasBackground))
    return DONE


async def buckets(arguments: argparse.Namespace) -> int:
    async with opened(arguments) as parts:
        rows = await parts.database.run(collections.every)
    if arguments.json:
        output.as_json({"buckets": [{"bucket": c.bucket, "model": c.model, "dimensions": c.dimensions} for c in rows]})
    else:
        output.collections(rows)
    return DONE


async def drop(arguments: argparse.Namespace) -> int:
    async with opened(arguments) as parts, contextlib.AsyncExitStack() as stack:
        collection = await existing(parts)
        if not arguments.yes:
            counts = await parts.database.run(stats.counts, collection=collection)
            raise SettingsError(f"this removes {collection.bucket!r} with {counts.total} images: add --yes to do it")
        removed = 0
        if not arguments.keep_objects:
            store = factory.open_store(parts.settings, collection.bucket, concurrency=parts.settings.upload_concurrency)
            stack.push_async_callback(store.close)
            removed = await drop_objects(parts.database, store, collection)
        await parts.database.run(collections.drop, collection=collection)
    if arguments.json:
        output.as_json({"bucket": collection.bucket, "dropped": True, "objects_removed": removed})
    else:
        print(f"{collection.bucket}: removed, with {removed} objects")
    return DONE


async def doctor(arguments: argparse.Namespace) -> int:
    findings = await examine(load(arguments))
    if arguments.json:
        output.as_json({"checks": [vars(finding) for finding in findings]})
    else:
        output.findings(findings)
    return DONE if all(finding.ok for finding in findings) else COULD_NOT_RUN


async def migrate(arguments: argparse.Namespace) -> int:
    async with factory.open_database(load(arguments), max_connections=1, retry_timeout=30) as database:
        done = await database.run(apply_migrations)
    if arguments.json:
        output.as_json({"applied": done})
    else:
        print("\n".join(f"applied {name}" for name in done) or "nothing to apply")
    return DONE
