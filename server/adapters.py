"""The object stores and embedders that this process has opened: one per bucket, one per model."""

from server.settings import ServerSettings
from shared import factory
from shared.embedders.base import Embedder
from shared.errors import SettingsError
from shared.images.worker_pool import DecoderPool
from shared.models import Collection
from shared.stores.base import ObjectStore

CONCURRENCY = 8  # calls of one store or embedder at once


class Stores:
    """Object stores, opened at their first use."""

    def __init__(self, settings: ServerSettings) -> None:
        self._settings = settings
        self._opened: dict[str, ObjectStore] = {}

    def get(self, bucket: str) -> ObjectStore:
        """Return the store that holds *bucket*."""
        if bucket not in self._opened:
            self._opened[bucket] = factory.open_store(self._settings, bucket, concurrency=CONCURRENCY)
        return self._opened[bucket]

    async def close(self) -> None:
        """Close the opened stores."""
        for store in self._opened.values():
            await store.close()


class Embedders:
    """Embedders of the collections' models, made at their first use."""

    def __init__(self, settings: ServerSettings, decoder: DecoderPool) -> None:
        self._settings = settings
        self._decoder = decoder
        self._made: dict[str, Embedder] = {}

    def get(self, collection: Collection) -> Embedder:
        """Return the embedder of the collection's model.

        Raises SettingsError when the settings lack what the model needs, such as its API token.
        """
        model = collection.model
        if model not in self._made:
            embedder = factory.embedder_for_model(
                self._settings, model, self._decoder, concurrency=CONCURRENCY, interactive=True
            )
            factory.check_same_model(embedder, bucket=collection.bucket, model=model)
            self._made[model] = embedder
        return self._made[model]

    def find(self, collection: Collection) -> Embedder | None:
        """Return the embedder of the collection's model, None where the settings do not allow it."""
        try:
            return self.get(collection)
        except SettingsError:
            return None

    async def close(self) -> None:
        """Close the embedders."""
        for embedder in self._made.values():
            await embedder.close()
