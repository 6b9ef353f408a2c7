"""The command line: arguments to settings, settings to parts, parts to an exit status."""

import argparse
import asyncio
import contextlib
import logging
import math
import signal
import socket
import sys
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Any, NoReturn, get_args

from shared import images, progress, settings, wiring
from shared.db import migrate, names
from shared.db.pool import Connection, Database
from shared.decoding import Decoder
from shared.embedders import Embedder, HasBackground
from shared.errors import ImageBrowserError, SettingsError
from shared.model import Collection, Shadow
from shared.progress import Status
from shared.sql import collections, queue, stats
from shared.stores import ObjectStore
from syncer import calibrate, doctor, reembed, report
from syncer.adopt import Adoption
from syncer.drop import drop_objects
from syncer.embed import Embedding, Policy
from syncer.gone import Deletion
from syncer.outage import Outages
from syncer.patterns import IGNORE_FILE, Selection
from syncer.preview import Preview
from syncer.progress import Progress
from syncer.settings import SyncerSettings
from syncer.upload import Uploader
from syncer.watch import Settling, Watch

DONE, COULD_NOT_RUN, WRONG_USAGE, SOME_FAILED, INTERRUPTED = 0, 1, 2, 3, 130

EXIT_STATUS = """exit status:
  0    all done
  1    could not run: a connection, a setting
  2    wrong usage
  3    finished, but some images failed (`syncer failed` lists them)
  130  interrupted; nothing is lost, the same command resumes
"""


def main() -> NoReturn:
    """Run the command that the arguments name, and exit with its status."""
    arguments = _parser().parse_args()
    logging.basicConfig(level=logging.WARNING, format="%(levelname)s %(name)s: %(message)s")
    try:
        status = asyncio.run(_interruptible(arguments.command(arguments)))
    except ImageBrowserError as exc:
        print(f"syncer: {exc}", file=sys.stderr)
        status = COULD_NOT_RUN
    except (asyncio.CancelledError, KeyboardInterrupt):
        print("syncer: interrupted; the same command resumes", file=sys.stderr)
        status = INTERRUPTED
    sys.exit(status)


async def _interruptible(command: Coroutine[Any, Any, int]) -> int:
    """Run *command*; SIGINT and SIGTERM cancel it, so that what is in hand is given back."""
    task = asyncio.ensure_future(command)
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        with contextlib.suppress(NotImplementedError):
            loop.add_signal_handler(number, task.cancel)
    try:
        return await task
    except BaseExceptionGroup as group:
        raise _first(group) from group


def _first(group: BaseExceptionGroup[BaseException]) -> BaseException:
    """Return what is to be said of several failures at once: the first that has a sentence of its own."""
    leaves: list[BaseException] = []

    def collect(error: BaseException) -> None:
        if isinstance(error, BaseExceptionGroup):
            for inner in error.exceptions:
                collect(inner)
        else:
            leaves.append(error)

    collect(group)
    return next((error for error in leaves if isinstance(error, ImageBrowserError)), leaves[0])


# --- arguments ----------------------------------------------------------------------------------------------------


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="syncer",
        description="Uploads images to a bucket and fills the vectors that searches compare.",
        epilog=EXIT_STATUS,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    commands = parser.add_subparsers(metavar="COMMAND", required=True)

    def add(
        name: str, run: Callable[[argparse.Namespace], Coroutine[Any, Any, int]], help: str
    ) -> argparse.ArgumentParser:
        command = commands.add_parser(
            name,
            help=help,
            description=help[0].upper() + help[1:] + ".",
            epilog=EXIT_STATUS,
            formatter_class=argparse.RawDescriptionHelpFormatter,
        )
        command.add_argument(
            "--json", action="store_true", help="print one JSON object on standard output, nothing else"
        )
        command.set_defaults(command=run)
        return command

    def add_folder(command: argparse.ArgumentParser) -> None:
        command.add_argument("folder", metavar="DIR", type=Path, help="the folder of images, taken with its subfolders")
        command.add_argument("--bucket", help="the bucket (default: BUCKET, else the folder's name)")
        command.add_argument("--source", help="what this folder is known by, where host and path change between runs")
        command.add_argument("--upload-concurrency", type=int, metavar="N", help="uploads at once (8)")
        command.add_argument("--no-derivatives", action="store_true", help="make no thumbnails and previews")
        command.add_argument(
            "--include", action="append", default=[], metavar="PATTERN", help="take only files that match (repeatable)"
        )
        command.add_argument(
            "--exclude",
            action="append",
            default=[],
            metavar="PATTERN",
            help=f"leave files and folders out (repeatable), as patterns in files named {IGNORE_FILE} do; patterns are"
            " those of gitignore; what is left out is not looked at, and so never deleted",
        )
        command.add_argument(
            "--delete",
            action="store_true",
            help="remove the images that this folder brought and no longer holds; never more than a tenth of them,"
            " nor those of a folder that is empty now, without --yes",
        )
        command.add_argument("--yes", action="store_true", help="with --delete: however many they are")
        command.add_argument("--dry-run", action="store_true", help="say what would be done, and do nothing")

    sync = add("sync", _sync, "upload what is new or changed, and embed until nothing is pending")
    add_folder(sync)
    sync.add_argument("--watch", action="store_true", help="keep running, and pick changes up within a second")
    sync.add_argument("--embed-concurrency", type=int, metavar="N", help="model calls at once (3)")
    upload = add("upload", _upload, "upload what is new or changed, without embedding it")
    add_folder(upload)
    adopt = add("adopt", _adopt, "index what already lies in a bucket, without uploading it again, and embed it")
    adopt.add_argument("--bucket", help="the bucket (default: BUCKET)")
    adopt.add_argument("--prefix", default="", help="only what lies under this prefix")
    adopt.add_argument(
        "--reclaim",
        action="store_true",
        help="what carries this program's marks is the collection's own again: to rebuild a lost database",
    )
    adopt.add_argument("--no-embed", action="store_true", help="index alone; `syncer embed` does the rest")
    adopt.add_argument("--upload-concurrency", type=int, metavar="N", help="objects read at once (8)")
    adopt.add_argument("--embed-concurrency", type=int, metavar="N", help="model calls at once (3)")
    adopt.add_argument("--no-derivatives", action="store_true", help="make no thumbnails and previews")
    embed = add("embed", _embed, "embed until nothing is pending; any number of these may run at once")
    embed.add_argument("--bucket", help="the bucket (default: BUCKET)")
    embed.add_argument("--embed-concurrency", type=int, metavar="N", help="model calls at once (3)")
    status = add("status", _status, "show how far collections are")
    status.add_argument("--bucket", help="only this bucket")
    failed = add("failed", _failed, "list the images that were given up, and why")
    failed.add_argument("--bucket", help="the bucket (default: BUCKET)")
    retry = add("retry", _retry, "put images that were given up back into the queue")
    retry.add_argument("--bucket", help="the bucket (default: BUCKET)")
    retry.add_argument("--key", help="only this image")
    again = add(
        "reembed", _reembed, "give a collection the vectors of another model, while searches go on with those it has"
    )
    again.add_argument("--bucket", help="the bucket (default: BUCKET)")
    what = again.add_mutually_exclusive_group()
    what.add_argument("--embedder", choices=get_args(settings.EmbedderKind), help="the model (default: EMBEDDER)")
    what.add_argument("--rollback", action="store_true", help="switch back to the previous model's vectors")
    what.add_argument(
        "--forget",
        action="store_true",
        help="remove the vectors beside those in use: of a re-embedding that is given up, or of the previous model",
    )
    again.add_argument("--yes", action="store_true", help="switch also if more than a tenth of the vectors are lost")
    drop = add("drop", _drop, "remove a collection: its rows, and the objects that were put into the bucket for it")
    drop.add_argument("--bucket", help="the bucket (default: BUCKET)")
    drop.add_argument("--yes", action="store_true", help="really do it")
    drop.add_argument("--keep-objects", action="store_true", help="remove the rows alone")
    calibrate = add("calibrate", _calibrate, "measure what nonsense scores in a collection, so that weak matches show")
    calibrate.add_argument("--bucket", help="the bucket (default: BUCKET)")
    add("doctor", _doctor, "check every setting and connection, and say what to do")
    add("buckets", _buckets, "list collections")
    add("migrate", _migrate, "bring the database to the form that this version expects")
    return parser


def _load(arguments: argparse.Namespace) -> SyncerSettings:
    flags = ("bucket", "upload_concurrency", "embed_concurrency", "embedder")
    return settings.load(SyncerSettings, **{flag: getattr(arguments, flag, None) for flag in flags})


# --- parts --------------------------------------------------------------------------------------------------------


@dataclass
class Parts:
    """What a command works with."""

    settings: SyncerSettings
    database: Database
    progress: Progress
    outages: Outages


@asynccontextmanager
async def _parts(arguments: argparse.Namespace) -> AsyncIterator[Parts]:
    """The database, migrated, and what shows progress."""
    loaded = _load(arguments)
    shown = Progress(quiet=arguments.json)
    patience = math.inf if getattr(arguments, "watch", False) else loaded.outage_patience_seconds
    connections = loaded.upload_concurrency + loaded.embed_concurrency + 3
    async with wiring.open_database(
        loaded, max_connections=connections, patience=patience, waiting=shown.waiting
    ) as database:
        await database.run(migrate.migrate)
        yield Parts(loaded, database, shown, Outages(patience, shown.waiting))


def _bucket(parts: Parts, default: str | None = None) -> str:
    bucket = parts.settings.bucket or default
    if not bucket:
        raise SettingsError("no bucket is named: give --bucket NAME, or set BUCKET")
    return bucket


async def _existing(parts: Parts) -> Collection:
    """Return the collection that is asked for, which must be there."""
    bucket = names.check_bucket(_bucket(parts))
    found = await parts.database.run(partial(collections.find, bucket=bucket))
    if found is None:
        known = [c.bucket for c in await parts.database.run(collections.every)]
        raise SettingsError(f"there is no collection {bucket!r}; there are: {', '.join(known) or 'none'}")
    return found


def _embedder_for(parts: Parts, model: str | None, bucket: str, decoder: Decoder) -> Embedder:
    """Return the embedder of a collection that has *model*, or of a new one; refuse one that does not fit."""
    concurrency = parts.settings.embed_concurrency
    if model and not parts.settings.embedder:
        embedder = wiring.embedder_of(parts.settings, model, decoder, concurrency=concurrency)
    else:
        kind = parts.settings.embedder_for_new
        embedder = wiring.make_embedder(parts.settings, kind, decoder, concurrency=concurrency)
    if model:
        wiring.same_model(embedder, bucket=bucket, model=model)
    if embedder.notice:
        parts.progress.say(embedder.notice)
    return embedder


# --- commands -----------------------------------------------------------------------------------------------------


async def _sync(arguments: argparse.Namespace) -> int:
    folder = _folder(arguments.folder)
    if arguments.dry_run:
        return await _dry_run(arguments, folder)
    return await _transfer(arguments, partial(_bring_folder, folder), bucket=folder.name)


async def _upload(arguments: argparse.Namespace) -> int:
    folder = _folder(arguments.folder)
    if arguments.dry_run:
        return await _dry_run(arguments, folder)
    return await _transfer(arguments, partial(_bring_folder, folder), bucket=folder.name, embed=False)


async def _adopt(arguments: argparse.Namespace) -> int:
    return await _transfer(arguments, _bring_bucket, embed=not arguments.no_embed)


async def _embed(arguments: argparse.Namespace) -> int:
    return await _transfer(arguments)


@dataclass
class Transfer:
    """What the first phase works with; it calls ``arrived`` when there is something to embed."""

    arguments: argparse.Namespace
    parts: Parts
    collection: Collection
    store: ObjectStore
    decoder: Decoder
    arrived: Callable[[], None]
    withheld: str = ""  # what was not deleted though that was asked for, and why


async def _transfer(
    arguments: argparse.Namespace,
    bring: Callable[[Transfer], Coroutine[Any, Any, None]] | None = None,
    *,
    bucket: str | None = None,
    embed: bool = True,
) -> int:
    """Run the first phase, which is *bring*, the second or both at once, show how they go on, and report.

    The first phase makes the collection where there is none, of *bucket* where the settings name none.
    """
    async with _parts(arguments) as parts, contextlib.AsyncExitStack() as stack:
        decoder = Decoder()
        stack.push_async_callback(decoder.close)
        if bring:
            collection, embedder = await _ensure_collection(parts, bucket, decoder)
        else:
            collection = await _existing(parts)
            embedder = _embedder_for(parts, collection.model, collection.bucket, decoder)
        stack.push_async_callback(embedder.close)
        concurrency = parts.settings.upload_concurrency + parts.settings.embed_concurrency
        store = wiring.open_store(parts.settings, collection.bucket, concurrency=concurrency)
        stack.push_async_callback(store.close)
        await parts.outages.outlast(store.prepare)

        embedding = _embedding(parts, collection, embedder, store)
        transfer = Transfer(arguments, parts, collection, store, decoder, embedding.arrived)

        async def first_phase() -> None:
            if bring:
                await bring(transfer)
            embedding.no_more_to_come()

        with parts.progress.shown():
            async with asyncio.TaskGroup() as tasks:
                watching = tasks.create_task(_measure(parts, collection))
                async with asyncio.TaskGroup() as phases:
                    phases.create_task(first_phase())
                    if embed:
                        phases.create_task(embedding.run())
                watching.cancel()
        return await _summary(transfer)


def _embedding(parts: Parts, collection: Collection, embedder: Embedder, store: ObjectStore) -> Embedding:
    return Embedding(
        collection,
        embedder,
        database=parts.database,
        store=store,
        outages=parts.outages,
        progress=parts.progress,
        # The embedder itself makes no more calls at once than it may; more workers decode meanwhile.
        workers=2 * parts.settings.embed_concurrency,
        policy=Policy(
            lease=timedelta(seconds=parts.settings.lease_seconds),
            attempts=parts.settings.image_attempts,
            retry_delay=timedelta(seconds=parts.settings.image_retry_seconds),
        ),
    )


def _folder(path: Path) -> Path:
    """Return the folder with links resolved, so that it is the same source whichever way it is named."""
    folder = path.expanduser().resolve()
    if not folder.is_dir():
        raise SettingsError(f"{path} is no folder: give the folder that holds the images")
    return folder


async def _ensure_collection(parts: Parts, bucket: str | None, decoder: Decoder) -> tuple[Collection, Embedder]:
    bucket = names.check_bucket(_bucket(parts, bucket))
    found = await parts.database.run(partial(collections.find, bucket=bucket))
    embedder = _embedder_for(parts, found.model if found else None, bucket, decoder)
    if found is None:
        found = await parts.database.run(
            partial(
                collections.ensure,
                bucket=bucket,
                model=embedder.name,
                dimensions=embedder.dimensions,
                now=datetime.now(UTC),
            )
        )
        wiring.same_model(embedder, bucket=bucket, model=found.model)
    return found, embedder


async def _bring_folder(folder: Path, transfer: Transfer) -> None:
    arguments, settings = transfer.arguments, transfer.parts.settings
    # Only `syncer sync` can watch.
    watch: bool = getattr(arguments, "watch", False)
    selection, settling = _selection(arguments, folder), Settling()
    uploader = Uploader(
        folder,
        transfer.collection,
        source=_source(arguments, folder),
        selection=selection,
        database=transfer.parts.database,
        store=transfer.store,
        decoder=transfer.decoder,
        outages=transfer.parts.outages,
        progress=transfer.parts.progress,
        arrived=transfer.arrived,
        concurrency=settings.upload_concurrency,
        derivatives=not arguments.no_derivatives,
        deletion=_deletion(arguments),
        at_rest=settling.at_rest if watch else lambda file: True,
    )
    if watch:
        shown, rescan = transfer.parts.progress, settings.watch_rescan_seconds
        await Watch(folder, selection, uploader, settling, shown, rescan=rescan).run()
    if not await uploader.run():
        transfer.parts.progress.say("another syncer is bringing this folder over, and a further one waits to be next")
    transfer.withheld = uploader.withheld


def _source(arguments: argparse.Namespace, folder: Path) -> str:
    return arguments.source or f"{socket.gethostname()}:{folder}"


def _selection(arguments: argparse.Namespace, folder: Path) -> Selection:
    return Selection(folder, images.EXTENSIONS, include=arguments.include, exclude=arguments.exclude)


def _deletion(arguments: argparse.Namespace) -> Deletion:
    return Deletion(wanted=arguments.delete, confirmed=arguments.yes)


async def _dry_run(arguments: argparse.Namespace, folder: Path) -> int:
    """Say what a run would do; neither the bucket nor the database is changed."""
    loaded = _load(arguments)
    bucket = names.check_bucket(loaded.bucket or folder.name)
    patience = loaded.outage_patience_seconds
    async with wiring.open_database(loaded, max_connections=2, patience=patience) as database:
        preview = Preview(
            folder,
            bucket,
            source=_source(arguments, folder),
            selection=_selection(arguments, folder),
            database=database,
            deletion=_deletion(arguments),
        )
        await report.dry_run(preview, as_one_object=arguments.json)
    return DONE


async def _bring_bucket(transfer: Transfer) -> None:
    arguments = transfer.arguments
    adoption = Adoption(
        transfer.collection,
        prefix=arguments.prefix,
        suffixes=images.EXTENSIONS,
        reclaim=arguments.reclaim,
        database=transfer.parts.database,
        store=transfer.store,
        decoder=transfer.decoder,
        outages=transfer.parts.outages,
        progress=transfer.parts.progress,
        arrived=transfer.arrived,
        concurrency=transfer.parts.settings.upload_concurrency,
        derivatives=not arguments.no_derivatives,
    )
    await adoption.run()


async def _measure(parts: Parts, collection: Collection) -> None:
    """Show how far the collection is, each second."""
    while True:
        parts.progress.measured(await parts.database.run(partial(_read, collection=collection)))
        await asyncio.sleep(1)


async def _summary(transfer: Transfer) -> int:
    parts, withheld = transfer.parts, transfer.withheld
    row = await parts.database.run(partial(_read, collection=transfer.collection))
    done = parts.progress.counts
    if transfer.arguments.json:
        brought = {what: done[what] for what in ("uploaded", "adopted", "moved", "deleted", "unchanged")}
        report.as_json(row.as_json() | brought | {"embedded_now": done["embedded"], "withheld": withheld or None})
    else:
        seldom = ("adopted", "moved", "deleted")
        brought_now = [f"{done[what]} {what}" for what in ("uploaded", *seldom) if done[what] or what not in seldom]
        print(f"{', '.join(brought_now)}, {done['unchanged']} unchanged, {done['embedded']} embedded by this run")
        report.status([row])
    if withheld:
        print(f"syncer: {withheld}", file=sys.stderr)
    if row.failed or done["failed"]:
        return SOME_FAILED
    return COULD_NOT_RUN if withheld else DONE


async def _read(conn: Connection, collection: Collection) -> Status:
    return await progress.read(conn, collection, wiring.price_of(collection.model))


async def _status(arguments: argparse.Namespace) -> int:
    async with _parts(arguments) as parts:
        chosen = [await _existing(parts)] if arguments.bucket else await parts.database.run(collections.every)

        async def every(conn: Connection) -> list[tuple[Status, tuple[Shadow, Status] | None]]:
            rows = []
            for c in chosen:
                found = await reembed.beside(conn, c)
                rows.append((await _read(conn, c), (found[0], await _read(conn, found[1])) if found else None))
            return rows

        rows = await parts.database.run(every)
    if arguments.json:
        report.as_json(
            {
                "buckets": [
                    row.as_json() | {"beside": beside[1].as_json() | {"state": beside[0].state} if beside else None}
                    for row, beside in rows
                ]
            }
        )
    else:
        report.status([row for row, _ in rows], {row.bucket: beside for row, beside in rows if beside})
    return DONE


async def _failed(arguments: argparse.Namespace) -> int:
    async with _parts(arguments) as parts:
        collection = await _existing(parts)
        rows = await parts.database.run(partial(queue.failures, collection=collection, model=collection.model))
    if arguments.json:
        report.as_json({"bucket": collection.bucket, "failed": [vars(row) for row in rows]})
    else:
        report.failures(rows)
    return DONE


async def _retry(arguments: argparse.Namespace) -> int:
    async with _parts(arguments) as parts:
        collection = await _existing(parts)

        async def put_back(conn: Connection) -> int:
            beside = await reembed.beside(conn, collection)
            models = [collection.model, *([beside[1].model] if beside else [])]
            return sum([await queue.retry(conn, collection, model, key=arguments.key) for model in models])

        n = await parts.database.run(put_back)
    if arguments.json:
        report.as_json({"bucket": collection.bucket, "retried": n})
    else:
        print(f"{n} put back; `syncer embed --bucket {collection.bucket}` or the next `syncer sync` tries them again")
    return DONE


async def _reembed(arguments: argparse.Namespace) -> int:
    """Fill the vectors of another model and switch to them; or go back; or remove those that lie beside."""
    async with _parts(arguments) as parts:
        collection = await _existing(parts)
        if arguments.forget:
            forgotten = await reembed.forget(parts.database, collection)
            if arguments.json:
                report.as_json({"bucket": collection.bucket, "model": collection.model, "forgotten": forgotten.model})
            else:
                print(f"{collection.bucket}: the vectors of {forgotten.model} are removed")
            return DONE
        if arguments.rollback:
            await reembed.roll_back(parts.database, collection)
        else:
            await _fill_and_switch(parts, collection, yes=arguments.yes)
        switched = await _existing(parts)
        row = await parts.database.run(partial(_read, collection=switched))
        failures = await parts.database.run(partial(queue.failures, collection=switched, model=switched.model))
    if arguments.json:
        report.as_json(row.as_json() | {"previous_model": collection.model})
    else:
        print(f"{row.bucket}: {row.model} instead of {collection.model}; `syncer reembed --rollback` goes back")
        report.failures(failures)
        report.status([row])
    return SOME_FAILED if row.failed else DONE


async def _fill_and_switch(parts: Parts, collection: Collection, *, yes: bool) -> None:
    if parts.settings.embedder is None:
        raise SettingsError("no model is named: give --embedder replicate, clip or offline")
    concurrency = parts.settings.embed_concurrency
    async with contextlib.AsyncExitStack() as stack:
        decoder = Decoder()
        stack.push_async_callback(decoder.close)
        embedder = wiring.make_embedder(parts.settings, parts.settings.embedder, decoder, concurrency=concurrency)
        stack.push_async_callback(embedder.close)
        if embedder.notice:
            parts.progress.say(embedder.notice)
        store = wiring.open_store(parts.settings, collection.bucket, concurrency=concurrency)
        stack.push_async_callback(store.close)
        await parts.outages.outlast(store.prepare)
        beside = await reembed.begin(parts.database, collection, embedder)
        fill = partial(_embedding, parts, beside, embedder, store)
        with parts.progress.shown():
            async with asyncio.TaskGroup() as tasks:
                watching = tasks.create_task(_measure(parts, beside))
                await reembed.fill_and_switch(parts.database, collection, embedder.name, fill, yes=yes)
                watching.cancel()


async def _calibrate(arguments: argparse.Namespace) -> int:
    async with _parts(arguments) as parts, contextlib.AsyncExitStack() as stack:
        collection = await _existing(parts)
        decoder = Decoder()
        stack.push_async_callback(decoder.close)
        embedder = _embedder_for(parts, collection.model, collection.bucket, decoder)
        stack.push_async_callback(embedder.close)
        measured = await calibrate.calibrate(parts.database, collection, embedder)
    if arguments.json:
        report.as_json({"bucket": collection.bucket, "model": embedder.name} | vars(measured))
    else:
        report.calibration(collection, measured, own_background=isinstance(embedder, HasBackground))
    return DONE


async def _buckets(arguments: argparse.Namespace) -> int:
    async with _parts(arguments) as parts:
        rows = await parts.database.run(collections.every)
    if arguments.json:
        report.as_json({"buckets": [{"bucket": c.bucket, "model": c.model, "dimensions": c.dimensions} for c in rows]})
    else:
        report.collections(rows)
    return DONE


async def _drop(arguments: argparse.Namespace) -> int:
    async with _parts(arguments) as parts, contextlib.AsyncExitStack() as stack:
        collection = await _existing(parts)
        if not arguments.yes:
            counts = await parts.database.run(partial(stats.counts, collection=collection))
            raise SettingsError(f"this removes {collection.bucket!r} with {counts.total} images: add --yes to do it")
        removed = 0
        if not arguments.keep_objects:
            store = wiring.open_store(parts.settings, collection.bucket, concurrency=parts.settings.upload_concurrency)
            stack.push_async_callback(store.close)
            removed = await drop_objects(parts.database, store, collection)
        await parts.database.run(partial(collections.drop, collection=collection))
    if arguments.json:
        report.as_json({"bucket": collection.bucket, "dropped": True, "objects_removed": removed})
    else:
        print(f"{collection.bucket}: removed, with {removed} objects")
    return DONE


async def _doctor(arguments: argparse.Namespace) -> int:
    findings = await doctor.examine(_load(arguments))
    if arguments.json:
        report.as_json({"checks": [vars(finding) for finding in findings]})
    else:
        report.findings(findings)
    return DONE if all(finding.ok for finding in findings) else COULD_NOT_RUN


async def _migrate(arguments: argparse.Namespace) -> int:
    async with wiring.open_database(_load(arguments), max_connections=1, patience=30) as database:
        done = await database.run(migrate.migrate)
    if arguments.json:
        report.as_json({"applied": done})
    else:
        print("\n".join(f"applied {name}" for name in done) or "nothing to apply")
    return DONE
