"""What handlers work with: opened once per process, shared by all requests."""

import asyncio
import secrets
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field, replace

from starlette.requests import Request

from server import metrics
from server.access import NO_ACCESS, Access
from server.cache.collections import CollectionCache
from server.cache.facets import FacetCache
from server.cache.pages import KeptPages
from server.cache.stats_feed import StatsFeed
from server.rate_limits import PaidQueries
from server.schemas.errors import Problem
from server.search import local_text_encoder
from server.search.cursor import Cursors
from server.search.query import QueryVectors, free
from server.search.relevance import RelevanceThresholds
from server.settings import ServerSettings
from server.url_fetcher import UrlFetcher
from shared import factory
from shared.db.pool import Database
from shared.embedders.base import Embedder
from shared.embedders.clip.embedder import ClipEmbedder
from shared.errors import SettingsError
from shared.images.worker_pool import DecoderPool
from shared.models import Collection
from shared.sql import collections
from shared.stores.base import ObjectStore

PICTURES_AT_ONCE = 16  # that are searched for; each is held in memory while it is looked at


@dataclass
class AppContext:
    """One process's connections and caches. Nothing here is lost with the process that others would miss.

    Each request works with a copy that has its own ``access``, so what it caches goes into the containers that all
    copies share.
    """

    settings: ServerSettings
    database: Database
    decoder: DecoderPool
    feed: StatsFeed
    fetcher: UrlFetcher
    known: CollectionCache
    kept: KeptPages
    access: Access = NO_ACCESS
    pictures_at_once: asyncio.Semaphore = field(default_factory=lambda: asyncio.Semaphore(PICTURES_AT_ONCE))
    chances: RelevanceThresholds = field(default_factory=RelevanceThresholds)
    facets: FacetCache = field(default_factory=FacetCache)
    background: set["asyncio.Task[None]"] = field(default_factory=set)
    _secret: list[str] = field(default_factory=list)
    _stores: dict[str, ObjectStore] = field(default_factory=dict)
    _embedders: dict[str, Embedder] = field(default_factory=dict)
    _local: dict[str, ClipEmbedder] = field(default_factory=dict)
    _queries: dict[str, QueryVectors] = field(default_factory=dict)

    async def collections(self) -> list[Collection]:
        """Return the collections that this server shows to whoever asks."""
        return self._shown(await self.known.now())

    async def collection(self, bucket: str | None, *, fresh: bool = False) -> Collection:
        """Return the collection that a request names, or the default one; raise a 404 that names it.

        Unless *fresh*, it may have been switched to another model, or dropped, in the last second.
        """
        default = self.settings.bucket
        wanted = bucket or (default if default and self.access.sees(default) else None)
        for ask in (self.known.now,) if fresh else (self.known.lately, self.known.now):
            for c in self._shown(await ask()):
                if wanted is None or c.bucket == wanted:
                    return c
        if wanted is None:
            raise Problem(404, "there is no collection yet: `syncer sync DIR --bucket NAME` makes one")
        raise Problem(404, f"there is no collection {wanted[:100]!r}: /api/collections lists them")

    def _shown(self, every: list[Collection]) -> list[Collection]:
        shown = self.settings.buckets
        return [c for c in every if (not shown or c.bucket in shown) and self.access.sees(c.bucket)]

    async def secret(self) -> str:
        """Return the key that signs cursors and cookies, the same on all servers."""
        if not self._secret:
            if self.settings.secret_key:
                secret = self.settings.secret_key.get_secret_value()
            else:
                secret = await self.database.run(
                    collections.shared_value, name="secret_key", default=secrets.token_urlsafe(32)
                )
            self._secret.append(secret)
        return self._secret[0]

    async def cursors(self) -> Cursors:
        """Return what signs cursors."""
        return Cursors(await self.secret())

    def store(self, bucket: str) -> ObjectStore:
        """Return the store that holds *bucket*."""
        if bucket not in self._stores:
            self._stores[bucket] = factory.open_store(self.settings, bucket, concurrency=8)
        return self._stores[bucket]

    def embedder(self, collection: Collection) -> Embedder:
        """Return the model that filled the collection."""
        if collection.model not in self._embedders:
            embedder = factory.embedder_for_model(
                self.settings, collection.model, self.decoder, concurrency=8, interactive=True
            )
            factory.check_same_model(embedder, bucket=collection.bucket, model=collection.model)
            self._embedders[collection.model] = embedder
        return self._embedders[collection.model]

    def queries(self, collection: Collection) -> QueryVectors:
        """Return what makes query texts comparable with the collection's images."""
        if collection.model not in self._queries:
            self._queries[collection.model] = self._make_queries(collection)
        return self._queries[collection.model]

    def _make_queries(self, collection: Collection) -> QueryVectors:
        if local_text_encoder.applies(self.settings, collection.model):
            # One for all models whose place it takes.
            local = local_text_encoder.local_embedder(self.settings, self.decoder)
            local = self._local.setdefault(local.name, local)
            agreement = local_text_encoder.Agreement(
                self.settings, local, collection.model, database=self.database, decoder=self.decoder, store=self.store
            )
            return local_text_encoder.LocalTexts(local, self.database, agreement)
        embedder = self.embedder(collection)
        spend = self._budget().spend if embedder.price_per_image else free
        return QueryVectors(embedder, self.database, spend)

    async def spend(self, collection: Collection) -> None:
        """Count one call of the collection's model; raise a 429 when whoever asks, or all, have had enough of them."""
        if self.embedder(collection).price_per_image:
            await self._budget().spend()

    def notice(self, collection: Collection) -> str | None:
        """Return what people should know of the collection's model; None when there is nothing, or no such model."""
        try:
            return self.embedder(collection).notice
        except SettingsError:
            return None

    def _budget(self) -> PaidQueries:
        per_client = self.settings.paid_queries_per_hour_and_client
        return PaidQueries(self.database, per_hour=self.settings.paid_queries_per_hour, per_hour_and_client=per_client)

    async def close(self) -> None:
        """Give everything back."""
        for task in self.background:
            task.cancel()
        for embedder in (*self._embedders.values(), *self._local.values()):
            await embedder.close()
        for store in self._stores.values():
            await store.close()
        await self.decoder.close()


@asynccontextmanager
async def opened(settings: ServerSettings, fetcher: UrlFetcher) -> AsyncIterator[AppContext]:
    """The services, as long as the block lasts. The database may come later: until then requests are told so."""
    async with AsyncExitStack() as stack:
        database = await stack.enter_async_context(
            factory.open_database(
                settings,
                max_connections=settings.database_connections,
                retry_timeout=2.0,
                checkout_timeout=3.0,
                replicas=[url.get_secret_value() for url in settings.database_read_urls],
            )
        )
        made = AppContext(
            settings,
            database,
            DecoderPool(),
            StatsFeed(database),
            fetcher,
            CollectionCache(database),
            KeptPages(database),
        )
        stack.push_async_callback(made.close)
        stack.push_async_callback(made.feed.close)
        watching = asyncio.create_task(metrics.watch_pools(database))
        stack.callback(watching.cancel)
        yield made


def app_context(request: Request) -> AppContext:
    """Return the services of the process that serves *request*, as far as it may use them."""
    found = request.app.state.services
    assert isinstance(found, AppContext)
    return replace(found, access=request.state.access)
