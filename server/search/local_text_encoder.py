"""Texts encoded by this server itself for collections that Replicate filled, once their vectors were found to agree."""

import asyncio
import base64
import logging
from collections.abc import Callable
from statistics import median

import psycopg

from server.search.query import QueryVectors
from server.settings import ServerSettings
from shared import factory
from shared.db import migrate
from shared.db.pool import Database
from shared.embedders.base import Vector
from shared.embedders.clip.embedder import ClipEmbedder, agreement
from shared.embedders.replicate.embedder import fetches_images
from shared.embedders.replicate.image_input import data_url
from shared.errors import ImageRefused, ModelError, ObjectMissing, ServiceError
from shared.images.worker_pool import DecoderPool
from shared.models import Collection
from shared.object_keys import preview_key
from shared.sql import collections, encoder_checks
from shared.sql.encoder_checks import Sample
from shared.stores.base import ObjectStore

log = logging.getLogger(__name__)

AGREES = 0.999  # the cosine of two vectors of one image from where they may be compared with each other
COMPARED, LOOKED_AT = 3, 20  # images: one alone may have been damaged since it was embedded


def applies(settings: ServerSettings, model: str) -> bool:
    """Whether texts for collections of *model* are encoded by this server in that model's place."""
    return settings.text_embedder is not None and factory.embedder_kind(model) == "replicate"


def local_embedder(settings: ServerSettings, decoder: DecoderPool) -> ClipEmbedder:
    """Return the model of CLIP_MODEL; nothing is loaded yet."""
    embedder = factory.make_embedder(settings, "clip", decoder, concurrency=1)
    assert isinstance(embedder, ClipEmbedder)
    return embedder


class Agreement:
    """Whether vectors of a model on this machine may be compared with those of a *model* elsewhere.

    It is found out with images that the other one has embedded, by giving them to the local one as they were given to
    the other. Agreement is noted in the database, so that later starts, and other servers, need not look again.
    """

    def __init__(
        self,
        settings: ServerSettings,
        local: ClipEmbedder,
        model: str,
        *,
        database: Database,
        decoder: DecoderPool,
        store: Callable[[str], ObjectStore],
    ) -> None:
        self._settings = settings
        self._local = local
        self._model = model
        self._database = database
        self._decoder = decoder
        self._store = store
        self._lock = asyncio.Lock()
        self._found: bool | ModelError = False

    async def check(self) -> None:
        """Return when they agree, or nothing is there yet to compare. Raises ModelError with the figure when not."""
        async with self._lock:
            if self._found is False:
                self._found = await self._find_out()
        if isinstance(self._found, ModelError):
            raise self._found

    async def _find_out(self) -> bool | ModelError:
        local = f"{self._local.name} {await self._local.text_digest()}"
        if await self._database.run(encoder_checks.is_known, local=local, model=self._model):
            return True
        every = await self._database.run(collections.list_all)
        cosines: list[float] = []
        for collection in (each for each in every if each.model == self._model):
            cosines += await self._compare(collection, COMPARED - len(cosines))
        if not cosines:
            return False
        if (cosine := median(cosines)) < AGREES:
            return ModelError(
                f"TEXT_EMBEDDER=clip: {self._local.name} gives images that {self._model} has embedded vectors with a"
                f" cosine of {cosine:.4f} to the stored ones, and {AGREES} is needed: these are other weights. Set"
                " CLIP_MODEL to those that filled the collection (ViT-L/14), or unset TEXT_EMBEDDER",
                transient=False,
            )
        log.info("%s agrees with %s: cosine %.5f", self._local.name, self._model, cosine)
        await self._database.run(encoder_checks.remember, local=local, model=self._model, cosine=cosine)
        return True

    async def _compare(self, collection: Collection, count: int) -> list[float]:
        """Return the cosines for up to *count* images of the collection."""
        samples = await self._database.run(encoder_checks.samples, collection=collection, limit=LOOKED_AT)
        # Another embedder than the one for texts, so that the large tower for images does not stay in memory.
        images = local_embedder(self._settings, self._decoder)
        cosines: list[float] = []
        try:
            for sample in samples:
                if len(cosines) < count:
                    try:
                        image = await self._as_sent(sample, self._store(collection.bucket))
                        cosines.append(await agreement(images, sample.vector, image=image))
                    except (ObjectMissing, ImageRefused) as exc:
                        log.info("%s cannot be compared: %s", sample.key, exc)
        finally:
            await images.close()
        return cosines

    async def _as_sent(self, sample: Sample, store: ObjectStore) -> bytes:
        """Return what the other model has seen of the image: a copy made smaller is another image to some degree."""
        if fetches_images(self._model):
            return await store.get(preview_key(sample.sha256) if sample.derivatives else sample.key)
        url = await self._decoder.run(data_url, await store.get(sample.key))
        return base64.b64decode(url.partition(",")[2])


class LocalTexts(QueryVectors):
    """Vectors of query texts from this machine, for a collection that was filled elsewhere."""

    def __init__(self, local: ClipEmbedder, database: Database, agreement: Agreement) -> None:
        super().__init__(local, database)
        self._agreement = agreement

    async def of(self, text: str) -> Vector:
        """Return the unit vector of *text*; raises ModelError when the two models do not agree."""
        await self._agreement.check()
        return await super().of(text)


async def check_at_start(settings: ServerSettings) -> None:
    """Raise ModelError when TEXT_EMBEDDER's model does not agree with one of the collections.

    While the database or the store is away nothing is said: what cannot be checked now is checked before its first use.
    """
    decoder = DecoderPool(1)
    stores: dict[str, ObjectStore] = {}

    def store(bucket: str) -> ObjectStore:
        return stores.setdefault(bucket, factory.open_store(settings, bucket, concurrency=1))

    local = local_embedder(settings, decoder)
    try:
        async with factory.open_database(
            settings, max_connections=1, retry_timeout=2.0, checkout_timeout=3.0
        ) as database:
            if settings.database_url is None:
                await database.run(migrate.migrate)
            for model in {each.model for each in await database.run(collections.list_all)}:
                if applies(settings, model):
                    await Agreement(settings, local, model, database=database, decoder=decoder, store=store).check()
    except ServiceError as exc:
        if not exc.transient:
            raise
        log.warning("TEXT_EMBEDDER is checked later: %s", exc)
    except psycopg.errors.UndefinedTable:
        log.warning("TEXT_EMBEDDER is checked later: the database has no tables yet; `server --migrate` makes them")
    finally:
        await local.close()
        for each in stores.values():
            await each.close()
        await decoder.close()
