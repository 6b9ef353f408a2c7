"""`syncer doctor`: check settings and connections, each independently of the others."""

import argparse
from collections.abc import Awaitable
from dataclasses import dataclass

from shared import factory
from shared.db.versions import check_versions
from shared.errors import ImageBrowserError
from shared.images.worker_pool import DecoderPool
from shared.sql import calibrations
from syncer import output
from syncer.context import COULD_NOT_RUN, DONE, load_settings
from syncer.settings import SyncerSettings

HELP = "check settings and connections and name the remedy for each problem"


@dataclass(frozen=True)
class Finding:
    """Result of one check; ``detail`` includes the remedy if the check failed."""

    name: str
    ok: bool
    detail: str


def add_arguments(parser: argparse.ArgumentParser) -> None:
    pass


async def run(arguments: argparse.Namespace) -> int:
    settings = load_settings(arguments)
    findings = [
        await _finding("database", _database(settings)),
        await _finding("store", _store(settings)),
        await _finding("model", _model(settings)),
        await _finding("weak matches", _calibrations(settings)),
    ]
    if arguments.json:
        output.print_json({"checks": [vars(finding) for finding in findings]})
    else:
        for finding in findings:
            print(f"{'ok ' if finding.ok else 'BAD'}  {finding.name}: {finding.detail}")
    return DONE if all(finding.ok for finding in findings) else COULD_NOT_RUN


async def _finding(name: str, check: Awaitable[str]) -> Finding:
    try:
        return Finding(name, True, await check)
    except ImageBrowserError as exc:
        return Finding(name, False, str(exc))


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
