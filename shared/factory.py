"""Build the database, object store and embedder that the settings select, for both processes.

Adapters are imported where they are selected: their libraries load slowly, and most runs use one of each kind.
"""

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Unpack

from shared.collection_status import Price
from shared.db import embedded
from shared.db.pool import Database, PoolOptions
from shared.db.replicas import ReplicatedDatabase
from shared.embedders.base import Embedder
from shared.errors import SettingsError
from shared.images.worker_pool import DecoderPool
from shared.settings import EmbedderKind, Settings
from shared.stores.base import ObjectStore
from shared.stores.folder import FolderStore


@asynccontextmanager
async def database_url(settings: Settings) -> AsyncIterator[str]:
    """Yield DATABASE_URL or, when it is unset, the URL of the embedded PostgreSQL, which runs during the block."""
    if settings.database_url is not None:
        yield settings.database_url.get_secret_value()
        return
    server = await embedded.start(settings.home)
    try:
        yield server.url
    finally:
        await server.release()


@asynccontextmanager
async def open_database(
    settings: Settings, *, replicas: Sequence[str] = (), **options: Unpack[PoolOptions]
) -> AsyncIterator[Database]:
    """Yield the database, with read *replicas*; it connects in the background."""
    async with database_url(settings) as url:
        database = ReplicatedDatabase(url, replicas=replicas, **options)
        await database.open()
        try:
            yield database
        finally:
            await database.close()


def open_store(settings: Settings, bucket: str, *, concurrency: int) -> ObjectStore:
    """Return the store that holds *bucket*, without contacting it."""
    if uses_folders(settings):
        return FolderStore(settings.home / "buckets", bucket, threads=concurrency)
    from shared.stores.s3 import S3Options, S3Store, r2_endpoint

    secret = settings.r2_secret_access_key or settings.aws_secret_access_key
    token = settings.aws_session_token
    options = S3Options(
        endpoint_url=settings.s3_endpoint_url or r2_endpoint(settings.r2_account_id or ""),
        access_key_id=settings.r2_access_key_id or settings.aws_access_key_id or "",
        secret_access_key=secret.get_secret_value() if secret else "",
        session_token=token.get_secret_value() if token else None,
        region=settings.s3_region or ("auto" if settings.s3_endpoint_url is None else "us-east-1"),
        public_url=settings.public_url,
        concurrency=concurrency,
    )
    return S3Store(bucket, options)


def uses_folders(settings: Settings) -> bool:
    """Return whether buckets are folders on this machine."""
    return settings.s3_endpoint_url is None and settings.r2_account_id is None


def embedder_kind(model: str) -> EmbedderKind:
    """Return the kind of embedder that produces the vectors of *model*, the name stored with a collection."""
    for kind in ("replicate", "clip", "offline"):
        if model.partition(":")[0].partition("-")[0] == kind:
            return kind
    raise SettingsError(f"unknown model {model!r}: a newer version of Image Browser made this collection; run that one")


def make_embedder(
    settings: Settings, kind: EmbedderKind, decoder: DecoderPool, *, concurrency: int, interactive: bool = False
) -> Embedder:
    """Return an embedder that makes up to *concurrency* calls at once. Models load on first use.

    An *interactive* embedder gives up on a slow or unavailable service after seconds instead of minutes.
    """
    if kind == "offline":
        from shared.embedders.offline.embedder import OfflineEmbedder

        return OfflineEmbedder(settings.home / "models", decoder)
    if kind == "clip":
        from shared.embedders.clip.embedder import ClipEmbedder
        from shared.embedders.clip.hub import DEFAULT_MODEL

        return ClipEmbedder(settings.clip_model or DEFAULT_MODEL, settings.home / "models", decoder)
    from shared.embedders.replicate.client import Timeouts
    from shared.embedders.replicate.embedder import ReplicateEmbedder

    if settings.replicate_api_token is None:
        raise SettingsError("EMBEDDER=replicate needs REPLICATE_API_TOKEN; EMBEDDER=offline needs no account")
    embedder = ReplicateEmbedder(
        token=settings.replicate_api_token.get_secret_value(),
        decoder=decoder,
        model=settings.replicate_model,
        base_url=settings.replicate_base_url,
        concurrency=concurrency,
        timeouts=Timeouts(prediction=20, server_wait=10, response=5, retry_timeout=5) if interactive else None,
    )
    if embedder.input_kind == "address" and uses_folders(settings):
        raise SettingsError(
            f"REPLICATE_MODEL is {settings.replicate_model!r}: it downloads images itself and cannot reach folders on"
            " this machine; set R2_ACCOUNT_ID or S3_ENDPOINT_URL, or use REPLICATE_MODEL=openai/clip"
        )
    return embedder


def embedder_for_model(
    settings: Settings, model: str, decoder: DecoderPool, *, concurrency: int, interactive: bool = False
) -> Embedder:
    """Return the embedder for a collection's *model*, which may differ from the one for new collections.

    Raises SettingsError when the settings lack what it needs: a token, or the folder of an unpublished model.
    """
    kind, name = embedder_kind(model), model.partition(":")[2]
    if kind == "clip":
        from shared.embedders.clip.hub import known_model

        settings = settings.model_copy(update={"clip_model": name} if known_model(name) else {})
    if kind == "replicate":
        settings = settings.model_copy(update={"replicate_model": name})
    return make_embedder(settings, kind, decoder, concurrency=concurrency, interactive=interactive)


def check_same_model(embedder: Embedder, *, bucket: str, model: str) -> None:
    """Raise SettingsError unless *embedder* produces vectors of the collection's *model*."""
    if embedder.name != model:
        raise SettingsError(
            f"collection {bucket!r} uses the model {model!r}, but the settings select {embedder.name!r}: change the"
            f" settings, or the collection's model with `syncer reembed --bucket {bucket}`"
        )


def model_price(model: str) -> Price:
    """Return what the vectors of *model* cost; zero for a model that runs on this machine."""
    if embedder_kind(model) != "replicate":
        return Price(per_call=0, per_image=0)
    from shared.embedders.replicate.models import REPLICATE_MODELS

    known = REPLICATE_MODELS[model.removeprefix("replicate:").partition(":")[0]]
    return Price(per_call=known.price_per_image * known.batch_size, per_image=known.price_per_image)
