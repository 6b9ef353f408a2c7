"""Puts the parts together as the settings say: the database, the store and the model, for both processes."""

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

from shared.db import embedded
from shared.db.pool import Database
from shared.decoding import Decoder
from shared.embedders import Embedder
from shared.errors import SettingsError
from shared.settings import EmbedderKind, Settings
from shared.stores import ObjectStore
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
    patience: float,
    checkout_timeout: float = 10.0,
    waiting: Callable[[str], None] | None = None,
) -> AsyncIterator[Database]:
    """The database, connected in the background; the rest is as Database says."""
    async with database_url(settings) as url:
        database = Database(
            url,
            max_connections=max_connections,
            patience=patience,
            checkout_timeout=checkout_timeout,
            waiting=waiting,
        )
        await database.open()
        try:
            yield database
        finally:
            await database.close()


def open_store(settings: Settings, bucket: str, *, concurrency: int) -> ObjectStore:
    """Return the store that holds *bucket*; nothing is asked of it yet."""
    if settings.s3_endpoint_url is None and settings.r2_account_id is None:
        return FolderStore(settings.home / "buckets", bucket, threads=concurrency)
    raise SettingsError("S3_ENDPOINT_URL, R2_ACCOUNT_ID: not available yet; leave them unset to use folders")


def kind_of(model: str) -> EmbedderKind:
    """Return which kind of embedder makes the vectors of *model*, the name that a collection remembers."""
    for kind in ("replicate", "clip", "offline"):
        if model.partition(":")[0].partition("-")[0] == kind:
            return kind
    raise SettingsError(f"the model {model!r} is unknown to this version: run the version that made the collection")


def make_embedder(settings: Settings, kind: EmbedderKind, decoder: Decoder, *, concurrency: int = 1) -> Embedder:
    """Return an embedder of this kind, which makes up to *concurrency* calls at once; models load when first used."""
    if kind == "offline":
        from shared.embedders.offline import OfflineEmbedder

        return OfflineEmbedder(settings.home / "models", decoder)
    raise SettingsError(f"EMBEDDER={kind} is not available yet: use EMBEDDER=offline")


def same_model(embedder: Embedder, *, bucket: str, model: str) -> None:
    """Raise SettingsError unless *embedder* makes vectors of the collection's own *model*."""
    if embedder.name != model:
        raise SettingsError(
            f"collection {bucket!r} holds vectors of {model!r}, and the settings give {embedder.name!r}: set what gives"
            f" {model!r}, or change the collection's model with `syncer reembed --bucket {bucket}`"
        )


def price_per_image(model: str) -> float:
    """Return what a vector of *model* costs, an estimate in US dollars; 0 where it costs this machine's time alone."""
    return 0.0
