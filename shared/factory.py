"""Puts the parts together as the settings say: the database, the store and the model, for both processes.

Adapters are imported where they are chosen: each brings libraries that take a while to load, and most runs use one.
"""

from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager

from shared.collection_status import Price
from shared.db import embedded
from shared.db.pool import Database
from shared.embedders.base import Embedder
from shared.errors import SettingsError
from shared.images.worker_pool import DecoderPool
from shared.settings import EmbedderKind, Settings
from shared.stores.base import ObjectStore
from shared.stores.folder import FolderStore


@asynccontextmanager
async def database_url(settings: Settings) -> AsyncIterator[str]:
    """The address of the database for as long as the block lasts: the one given, or that of the embedded one."""
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
    settings: Settings,
    *,
    max_connections: int,
    retry_timeout: float,
    checkout_timeout: float = 10.0,
    waiting: Callable[[str], None] | None = None,
    replicas: Sequence[str] = (),
) -> AsyncIterator[Database]:
    """The database, connected in the background; the rest is as Database says."""
    async with database_url(settings) as url:
        database = Database(
            url,
            max_connections=max_connections,
            retry_timeout=retry_timeout,
            checkout_timeout=checkout_timeout,
            waiting=waiting,
            replicas=replicas,
        )
        await database.open()
        try:
            yield database
        finally:
            await database.close()


def open_store(settings: Settings, bucket: str, *, concurrency: int) -> ObjectStore:
    """Return the store that holds *bucket*; nothing is asked of it yet."""
    if _in_folders(settings):
        return FolderStore(settings.home / "buckets", bucket, threads=concurrency)
    from shared.stores.s3 import S3Store, r2_endpoint

    secret = settings.r2_secret_access_key or settings.aws_secret_access_key
    token = settings.aws_session_token
    return S3Store(
        endpoint_url=settings.s3_endpoint_url or r2_endpoint(settings.r2_account_id or ""),
        access_key_id=settings.r2_access_key_id or settings.aws_access_key_id or "",
        secret_access_key=secret.get_secret_value() if secret else "",
        session_token=token.get_secret_value() if token else None,
        bucket=bucket,
        region=settings.s3_region or ("auto" if settings.s3_endpoint_url is None else "us-east-1"),
        public_url=settings.public_url,
        concurrency=concurrency,
    )


def _in_folders(settings: Settings) -> bool:
    return settings.s3_endpoint_url is None and settings.r2_account_id is None


def kind_of(model: str) -> EmbedderKind:
    """Return which kind of embedder makes the vectors of *model*, the name that a collection remembers."""
    for kind in ("replicate", "clip", "offline"):
        if model.partition(":")[0].partition("-")[0] == kind:
            return kind
    raise SettingsError(f"the model {model!r} is unknown to this version: run the version that made the collection")


def make_embedder(
    settings: Settings, kind: EmbedderKind, decoder: DecoderPool, *, concurrency: int, somebody_waits: bool = False
) -> Embedder:
    """Return an embedder of this kind, which makes up to *concurrency* calls at once; models load when first used.

    When *somebody_waits* for its answers, a service that is slow or away is given up after some seconds.
    """
    if kind == "offline":
        from shared.embedders.offline.embedder import OfflineEmbedder

        return OfflineEmbedder(settings.home / "models", decoder)
    if kind == "clip":
        from shared.embedders.clip.embedder import ClipEmbedder

        return ClipEmbedder(settings.clip_model, settings.home / "models", decoder)
    from shared.embedders.replicate.embedder import ReplicateEmbedder, Timing

    if settings.replicate_api_token is None:
        raise SettingsError("EMBEDDER=replicate needs REPLICATE_API_TOKEN; EMBEDDER=offline needs no account")
    embedder = ReplicateEmbedder(
        token=settings.replicate_api_token.get_secret_value(),
        decoder=decoder,
        model=settings.replicate_model,
        base_url=settings.replicate_base_url,
        concurrency=concurrency,
        timing=Timing(deadline=20, wait=10, response=5, patience=5) if somebody_waits else None,
    )
    if embedder.wants == "address" and _in_folders(settings):
        raise SettingsError(
            f"REPLICATE_MODEL is {settings.replicate_model!r}, which fetches images itself and cannot reach folders on"
            " this machine: set R2_ACCOUNT_ID or S3_ENDPOINT_URL, or REPLICATE_MODEL=openai/clip, which is sent copies"
        )
    return embedder


def embedder_of(
    settings: Settings, model: str, decoder: DecoderPool, *, concurrency: int, somebody_waits: bool = False
) -> Embedder:
    """Return the embedder of the vectors of *model*, as a collection remembers it, whatever new collections get.

    Raises SettingsError when the settings lack what it needs: a token, or the folder of a model without a public name.
    """
    kind, name = kind_of(model), model.partition(":")[2]
    if kind == "clip":
        from shared.embedders.clip.hub import known_model

        settings = settings.model_copy(update={"clip_model": name} if known_model(name) else {})
    if kind == "replicate":
        settings = settings.model_copy(update={"replicate_model": name})
    return make_embedder(settings, kind, decoder, concurrency=concurrency, somebody_waits=somebody_waits)


def same_model(embedder: Embedder, *, bucket: str, model: str) -> None:
    """Raise SettingsError unless *embedder* makes vectors of the collection's own *model*."""
    if embedder.name != model:
        raise SettingsError(
            f"collection {bucket!r} holds vectors of {model!r}, and the settings give {embedder.name!r}: set what gives"
            f" {model!r}, or change the collection's model with `syncer reembed --bucket {bucket}`"
        )


def price_of(model: str) -> Price:
    """Return what the vectors of *model* cost; nothing where it takes this machine's time alone."""
    if kind_of(model) != "replicate":
        return Price(per_call=0, per_image=0)
    from shared.embedders.replicate.embedder import MODELS

    traits = MODELS[model.removeprefix("replicate:").partition(":")[0]]
    return Price(per_call=traits.price_per_image * traits.batch_size, per_image=traits.price_per_image)
