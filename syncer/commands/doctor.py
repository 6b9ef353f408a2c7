"""`syncer doctor`: check settings and connections by using them, each independently of the others."""

import argparse
import hashlib
import shutil
import tempfile
from collections.abc import Awaitable, Callable
from contextlib import suppress
from datetime import UTC, datetime
from typing import ParamSpec
from uuid import uuid4

import aiohttp
import psycopg

from shared import factory
from shared.allowed_hosts import ListeningSettings
from shared.db import migrate
from shared.db.pool import Connection, Database, first_line
from shared.db.versions import check_versions
from shared.errors import DatabaseError, ImageBrowserError, ObjectMissing, SettingsError, StoreError
from shared.images.worker_pool import DecoderPool
from shared.settings import load
from shared.sql import calibrations, collections
from shared.stores.base import CACHE_IMAGE, RESERVED_PREFIX, ObjectStore
from syncer import output
from syncer.context import COULD_NOT_RUN, DONE, load_settings
from syncer.reading import find_weights
from syncer.settings import SyncerSettings

HELP = "check settings, connections and rights by using them, and name the remedy for each problem"

P = ParamSpec("P")
_TIMEOUT = aiohttp.ClientTimeout(total=15)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    pass


async def run(arguments: argparse.Namespace) -> int:
    settings = load_settings(arguments)
    report = _Report()
    await report.check("home", _home, settings)
    buckets = [settings.bucket] if settings.bucket else []
    if await report.check("database", _database, settings):
        async with factory.open_database(settings, max_connections=1, retry_timeout=0) as database:
            if await report.check("rights", _rights, database) and await report.check("tables", _tables, database):
                await report.check("weak matches", _calibrations, database)
                buckets = buckets or [each.bucket for each in await database.run(collections.list_all)]
    await report.check("store", _store, settings, buckets)
    await report.check("decoders", _decoders)
    await report.check("model", _model, settings)
    await report.check("OCR", _ocr, settings)
    await report.check("host names", _host_names)
    output.print_result(
        {"checks": report.results},
        *(f"{'ok ' if result['ok'] else 'BAD'}  {result['name']}: {result['detail']}" for result in report.results),
        as_json=arguments.json,
    )
    return DONE if all(result["ok"] for result in report.results) else COULD_NOT_RUN


class _Report:
    """The results of the checks so far."""

    def __init__(self) -> None:
        self.results: list[dict[str, object]] = []

    async def check(self, name: str, check: Callable[P, Awaitable[str]], /, *args: P.args, **kwargs: P.kwargs) -> bool:
        """Run a check, which returns a detail or raises, and return whether it passed."""
        try:
            ok, detail = True, await check(*args, **kwargs)
        except ImageBrowserError as exc:
            ok, detail = False, str(exc)
        except psycopg.Error as exc:
            ok, detail = False, f"PostgreSQL: {first_line(exc)}"
        self.results.append({"name": name, "ok": ok, "detail": detail})
        return ok


async def _home(settings: SyncerSettings) -> str:
    remote = settings.database_url and not factory.uses_folders(settings) and settings.default_embedder == "replicate"
    if remote:
        return "not used by these settings"
    try:
        settings.home.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=settings.home):
            return str(settings.home)
    except OSError as exc:
        problem = f"IMAGE_BROWSER_HOME: cannot write to {settings.home}: {exc.strerror}"
        raise SettingsError(f"{problem}: set it to a folder that this user can write") from exc


async def _database(settings: SyncerSettings) -> str:
    async with factory.database_url(settings) as url:
        where = "DATABASE_URL" if settings.database_url else f"embedded, under {settings.home}"
        return f"{await check_versions(url)} ({where})"


async def _rights(database: Database) -> str:
    await database.run(_use_rights)
    return "this role can create, fill and drop tables"


async def _use_rights(conn: Connection) -> None:
    """Create a collection, and all tables if there are none; drop it; undo everything."""
    pending = await migrate.pending(conn)
    if pending:
        return  # an older schema, which `_tables` reports
    async with conn.transaction(force_rollback=True):
        if pending is None:
            await migrate.migrate(conn)
        bucket = f"doctor-{uuid4().hex}"
        collection = await collections.ensure(conn, bucket, model="doctor", dimensions=3, now=datetime.now(UTC))
        await collections.drop(conn, collection)


async def _tables(database: Database) -> str:
    if not await database.run(migrate.is_migrated):
        raise DatabaseError("there are none yet: run `syncer migrate`")
    return "up to date"


async def _calibrations(database: Database) -> str:
    missing = await database.run(calibrations.uncalibrated)
    # The offline model brings its own background vectors and needs no calibration.
    buckets = [bucket for bucket, model in missing if factory.embedder_kind(model) != "offline"]
    if not buckets:
        return "every collection is calibrated"
    examples = ", ".join(f"`syncer calibrate --bucket {bucket}`" for bucket in buckets[:3])
    return f"not marked in {len(buckets)} uncalibrated collections; run {examples}"


async def _store(settings: SyncerSettings, buckets: list[str]) -> str:
    if factory.uses_folders(settings):
        # A bucket of its own: a folder that is missing because its disk is not mounted must not be created.
        scratch = f"doctor-{uuid4().hex}"
        try:
            await _use_bucket(settings, scratch)
        finally:
            shutil.rmtree(settings.home / "buckets" / scratch, ignore_errors=True)
        return f"folders under {settings.home / 'buckets'}"
    if not buckets:
        return "settings are complete; set BUCKET to check the bucket as well"
    for bucket in buckets:
        await _use_bucket(settings, bucket)
    return f"can list, put, get, copy and delete objects in {', '.join(map(repr, buckets))}"


async def _use_bucket(settings: SyncerSettings, bucket: str) -> None:
    """Use each right on the bucket, with objects under the reserved prefix that are deleted again."""
    store = factory.open_store(settings, bucket, concurrency=1)
    key = f"{RESERVED_PREFIX}doctor/{uuid4().hex}"
    keys, body = [key, f"{key}-copy"], key.encode()
    right = "list"
    try:
        await store.prepare()
        right = "put"
        digest = hashlib.sha256(body).hexdigest()
        await store.put(key, body, content_type="text/plain", cache_control=CACHE_IMAGE, sha256=digest)
        right = "get"
        if await store.get(key) != body:
            raise StoreError("the object has other bytes than were stored")
        if settings.public_url and not factory.uses_folders(settings):
            await _fetch(store.address(key), body)
        right = "copy"
        await store.copy(*keys)
        right = "delete"
        await store.delete(keys)
        await _check_deleted(store, keys)
    except StoreError as exc:
        if right != "list":
            with suppress(StoreError):
                await store.delete(keys)
        raise StoreError(f"cannot {right} objects in bucket {bucket!r}: {exc}") from exc
    finally:
        await store.close()


async def _check_deleted(store: ObjectStore, keys: list[str]) -> None:
    for key in keys:
        with suppress(ObjectMissing):
            await store.head(key)
            raise StoreError(f"{key!r} is still there after its deletion")


async def _fetch(address: str, body: bytes) -> None:
    """Raise StoreError unless the public *address* answers with *body*."""
    try:
        async with aiohttp.ClientSession(timeout=_TIMEOUT) as session, session.get(address) as response:
            if response.status == 200 and await response.read() == body:
                return
            problem = f"answers {response.status} without the object"
    except (aiohttp.ClientError, TimeoutError, ValueError) as exc:
        problem = f"cannot be fetched: {exc or 'timeout'}"
    raise StoreError(f"{address} {problem}: check PUBLIC_URL")


async def _decoders() -> str:
    decoder = DecoderPool(1)
    try:
        return "; ".join(await decoder.sandbox_gaps()) or "sandboxed"
    finally:
        await decoder.close()


async def _ocr(settings: SyncerSettings) -> str:
    if settings.ocr is False:
        return "OCR=off: the words in pictures are not read"
    if find_weights(settings) is None:
        return "the words in pictures are not read here: the extra `ocr` is missing, or memory is below 1 GB"
    return "the words in pictures are read, unless a collection has it off"


async def _host_names() -> str:
    return load(ListeningSettings).describe_hosts()


async def _model(settings: SyncerSettings) -> str:
    decoder = DecoderPool(memory_limit=settings.decode_memory)
    kind = settings.default_embedder
    embedder = factory.make_embedder(settings, kind, decoder, concurrency=1, interactive=True)
    try:
        if kind == "replicate":
            from shared.embedders.replicate.embedder import ReplicateEmbedder

            assert isinstance(embedder, ReplicateEmbedder)
            return await embedder.check()
        await embedder.embed_texts(["a photo"])
        detail = f"{embedder.name}, {embedder.dimensions} dimensions, on this machine"
        if kind == "clip":
            from shared.embedders.clip.embedder import ClipEmbedder

            assert isinstance(embedder, ClipEmbedder)
            detail += f"; images on {await embedder.device()}"
        return detail
    finally:
        await embedder.close()
        await decoder.close()
