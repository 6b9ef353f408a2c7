"""TEXT_EMBEDDER=clip: encode query texts on this server for collections that Replicate embedded.

The local model is used once its vectors agree with those of the collections.
"""

import asyncio
import base64
import logging
from statistics import median

import psycopg

from server.adapters import Stores
from server.settings import ServerSettings
from shared import factory
from shared.db import migrate
from shared.db.pool import Database
from shared.embedders.base import agreement
from shared.embedders.clip.embedder import ClipEmbedder
from shared.embedders.clip.hub import REPLICATE_WEIGHTS
from shared.embedders.replicate.image_input import data_url
from shared.embedders.replicate.models import fetches_images
from shared.errors import ImageRefused, ModelError, ObjectMissing, ServiceError
from shared.images.worker_pool import DecoderPool
from shared.models import Collection
from shared.object_keys import preview_key
from shared.sql import collections, encoder_checks
from shared.sql.encoder_checks import EmbeddedSample

log = logging.getLogger(__name__)

MIN_COSINE = 0.999  # of two models' vectors of one image, to be comparable
SAMPLES, MAX_TRIED = 3, 20  # images; a single one may have been damaged since it was embedded


class LocalTextEncoder:
    """The model of CLIP_MODEL or REPLICATE_WEIGHTS, and its verification against the models whose texts it encodes.

    Verification gives the local model images that the other model has embedded, in the form in which they were sent to
    it. A success is stored in the database, for later starts and other servers.
    """

    def __init__(self, settings: ServerSettings, database: Database, decoder: DecoderPool, stores: Stores) -> None:
        self.embedder = _clip(settings, decoder)
        self._settings = settings
        self._database = database
        self._decoder = decoder
        self._stores = stores
        self._lock = asyncio.Lock()
        self._cosines: dict[str, float] = {}  # by model, once compared

    def applies_to(self, model: str) -> bool:
        """Return whether query texts for *model* are encoded locally."""
        return factory.embedder_kind(model) == "replicate"

    async def verify(self, model: str) -> None:
        """Raise ModelError if the vectors of *model* and the local model differ.

        Without an embedded image to compare, nothing is raised and the next call tries again.
        """
        async with self._lock:
            if model not in self._cosines:
                await self._compare(model)
        cosine = self._cosines.get(model, 1.0)
        if cosine < MIN_COSINE:
            raise ModelError(
                f"TEXT_EMBEDDER=clip: vectors of {self.embedder.name} and {model} for the same images have a cosine of"
                f" {cosine:.4f}, below {MIN_COSINE}: set CLIP_MODEL to the weights that embedded the collection"
                f" ({REPLICATE_WEIGHTS}), or unset TEXT_EMBEDDER",
                transient=False,
            )

    async def close(self) -> None:
        """Release the model's memory."""
        await self.embedder.close()

    async def _compare(self, model: str) -> None:
        local = f"{self.embedder.name} {await self.embedder.text_digest()}"
        if await self._database.run(encoder_checks.is_verified, local=local, model=model):
            self._cosines[model] = 1.0
        elif found := await self._sample_cosines(model):
            self._cosines[model] = cosine = median(found)
            log.info(
                "vectors of %s and %s for the same images have a cosine of %.5f", self.embedder.name, model, cosine
            )
            if cosine >= MIN_COSINE:
                await self._database.run(encoder_checks.save, local=local, model=model, cosine=cosine)

    async def _sample_cosines(self, model: str) -> list[float]:
        """Return the cosines of both models' vectors for up to SAMPLES images of the collections of *model*."""
        # A second instance, so that the large image tower does not stay in memory.
        encoder = _clip(self._settings, self._decoder)
        cosines: list[float] = []
        try:
            for collection in await self._database.run(collections.list_all):
                if collection.model == model:
                    for sample in await self._database.run(encoder_checks.samples, collection, limit=MAX_TRIED):
                        if len(cosines) < SAMPLES:
                            cosines += await self._cosine(encoder, collection, sample)
        finally:
            await encoder.close()
        return cosines

    async def _cosine(self, encoder: ClipEmbedder, collection: Collection, sample: EmbeddedSample) -> list[float]:
        """Return the cosine for one image, nothing if the image is missing or damaged."""
        try:
            image = await self._as_sent(sample, collection)
            return [await agreement(encoder, sample.vector, image=image)]
        except (ObjectMissing, ImageRefused) as exc:
            log.info("%s is skipped in the comparison of models: %s", sample.key, exc)
            return []

    async def _as_sent(self, sample: EmbeddedSample, collection: Collection) -> bytes:
        """Return the image as the collection's model received it: a scaled copy has a slightly different vector."""
        store = self._stores.get(collection.bucket)
        if fetches_images(collection.model):
            return await store.get(preview_key(sample.sha256) if sample.derivatives else sample.key)
        url = await self._decoder.run(data_url, await store.get(sample.key))
        return base64.b64decode(url.partition(",")[2])


def _clip(settings: ServerSettings, decoder: DecoderPool) -> ClipEmbedder:
    settings = settings.model_copy(update={"clip_model": settings.clip_model or REPLICATE_WEIGHTS})
    embedder = factory.make_embedder(settings, "clip", decoder, concurrency=1)
    assert isinstance(embedder, ClipEmbedder)
    return embedder


async def verify_at_start(settings: ServerSettings) -> None:
    """Raise ModelError if the model of TEXT_EMBEDDER disagrees with a collection.

    If the database or the store is unavailable, log a warning: the check runs again before the model's first use.
    """
    decoder, stores = DecoderPool(1, memory_limit=settings.decode_memory), Stores(settings)
    try:
        async with factory.open_database(
            settings, max_connections=1, retry_timeout=2.0, checkout_timeout=3.0
        ) as database:
            if settings.database_url is None:
                await database.run(migrate.migrate)
            encoder = LocalTextEncoder(settings, database, decoder, stores)
            for model in {each.model for each in await database.run(collections.list_all)}:
                if encoder.applies_to(model):
                    await encoder.verify(model)
            await encoder.close()
    except ServiceError as exc:
        if not exc.transient:
            raise
        log.warning("TEXT_EMBEDDER is verified later: %s", exc)
    except psycopg.errors.UndefinedTable:
        log.warning("TEXT_EMBEDDER is verified later: the database has no tables; run `server --migrate`")
    finally:
        await stores.close()
        await decoder.close()
