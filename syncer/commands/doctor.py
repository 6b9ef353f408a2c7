"""`syncer doctor`: check settings and connections, each independently of the others."""

import argparse

from shared import factory
from shared.db.versions import check_versions
from shared.errors import ImageBrowserError
from shared.images.worker_pool import DecoderPool
from shared.sql import calibrations
from syncer import output
from syncer.context import COULD_NOT_RUN, DONE, load_settings
from syncer.settings import SyncerSettings

HELP = "check settings and connections and name the remedy for each problem"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    pass


async def run(arguments: argparse.Namespace) -> int:
    settings = load_settings(arguments)
    results = []
    for name, check in [
        ("database", _database),
        ("store", _store),
        ("model", _model),
        ("weak matches", _calibrations),
    ]:
        try:
            results.append({"name": name, "ok": True, "detail": await check(settings)})
        except ImageBrowserError as exc:
            results.append({"name": name, "ok": False, "detail": str(exc)})
    output.print_result(
        {"checks": results},
        *(f"{'ok ' if result['ok'] else 'BAD'}  {result['name']}: {result['detail']}" for result in results),
        as_json=arguments.json,
    )
    return DONE if all(result["ok"] for result in results) else COULD_NOT_RUN


async def _database(settings: SyncerSettings) -> str:
    async with factory.database_url(settings) as url:
        where = "DATABASE_URL" if settings.database_url else f"embedded, under {settings.home}"
        return f"{await check_versions(url)} ({where})"


async def _store(settings: SyncerSettings) -> str:
    if not settings.r2_account_id and not settings.s3_endpoint_url:
        return f"folders under {settings.home / 'buckets'}"
    if not settings.bucket:
        return "settings are complete; set BUCKET to check the bucket as well"
    store = factory.open_store(settings, settings.bucket, concurrency=1)
    try:
        await store.prepare()
    finally:
        await store.close()
    return f"bucket {settings.bucket!r} is reachable"


async def _model(settings: SyncerSettings) -> str:
    decoder = DecoderPool()
    kind = settings.default_embedder
    embedder = factory.make_embedder(settings, kind, decoder, concurrency=1, interactive=True)
    try:
        if kind == "replicate":
            from shared.embedders.replicate.embedder import ReplicateEmbedder

            assert isinstance(embedder, ReplicateEmbedder)
            return await embedder.check()
        await embedder.embed_texts(["a photo"])
        return f"{embedder.name}, {embedder.dimensions} dimensions, on this machine"
    finally:
        await embedder.close()
        await decoder.close()


async def _calibrations(settings: SyncerSettings) -> str:
    async with factory.open_database(settings, max_connections=1, retry_timeout=0) as database:
        missing = await database.run(calibrations.uncalibrated)
    # The offline model brings its own background vectors and needs no calibration.
    buckets = [bucket for bucket, model in missing if factory.embedder_kind(model) != "offline"]
    if not buckets:
        return "every collection is calibrated"
    examples = ", ".join(f"`syncer calibrate --bucket {bucket}`" for bucket in buckets[:3])
    return f"not marked in {len(buckets)} uncalibrated collections; run {examples}"
