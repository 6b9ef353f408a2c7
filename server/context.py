"""The parts that handlers work with: built once per process, shared by all requests."""

import asyncio
import copy
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Concatenate, ParamSpec, TypeVar

from psycopg.errors import UndefinedTable
from starlette.requests import Request

from server import metrics
from server.access import NO_ACCESS, Access, AccessTokens
from server.adapters import Embedders, Stores
from server.cache.collection_cache import CollectionCache
from server.problem import Problem
from server.query_language.reader import QueryReader
from server.query_language.suggestions import Suggestions
from server.rate_limits import PaidQueries
from server.search.cursor import Cursors
from server.search.local_text_encoder import LocalTextEncoder
from server.search.query import QueryBuilder
from server.search.query_images import QueryImages
from server.search.relevance import Relevance
from server.search.service import SearchService
from server.search.text_vectors import TextVectors
from server.secret_key import SecretKey
from server.settings import ServerSettings
from server.stats_feed import StatsFeed
from server.url_fetcher import UrlFetcher
from shared import factory
from shared.db.pool import Database
from shared.errors import ModelChanged, ServiceError
from shared.images.worker_pool import DecoderPool
from shared.models import Collection, Counts
from shared.sql import stats

P = ParamSpec("P")
T = TypeVar("T")

# Seconds before each attempt to work on a collection that keeps changing. A read replica may lag behind for a moment.
ATTEMPT_PAUSES = (0.0, 0.0, 0.1, 0.3, 1.0, 3.0)


class AppContext:
    """One process's connections, caches and services.

    Each request gets a copy with its own ``access``; the parts are shared by all copies.
    """

    access: Access = NO_ACCESS

    def __init__(self, settings: ServerSettings, database: Database, fetcher: UrlFetcher) -> None:
        self.settings = settings
        self.database = database
        self.decoder = DecoderPool(memory_limit=settings.decode_memory, processes=settings.workers)
        self.stores = Stores(settings)
        self.embedders = Embedders(settings, self.decoder)
        secret_key = SecretKey(settings, database)
        self.tokens = AccessTokens(settings, database, secret_key)
        self.collection_cache = CollectionCache(database)
        self.stats_feed = StatsFeed(database)
        self._local_encoder = (
            LocalTextEncoder(settings, database, self.decoder, self.stores) if settings.text_embedder else None
        )
        paid_queries = PaidQueries(
            database,
            per_hour=settings.paid_queries_per_hour,
            per_hour_and_client=settings.paid_queries_per_hour_and_client,
        )
        text_vectors = TextVectors(database, self.embedders, paid_queries, self._local_encoder)
        self.query_images = QueryImages(database, self.embedders, self.decoder, paid_queries, fetcher)
        self.query_reader = QueryReader(self.collection_cache)
        self.suggestions = Suggestions(database, self.collection_cache)
        self.search = SearchService(
            database,
            self.collection_cache,
            QueryBuilder(database, text_vectors, self.query_images),
            Relevance(database, self.collection_cache, self.embedders.find),
            Cursors(secret_key),
        )

    def texts_are_free(self, collection: Collection) -> bool:
        """Return whether a search for a new text costs no money."""
        if self._local_encoder and self._local_encoder.applies_to(collection.model):
            return True
        embedder = self.embedders.find(collection)
        return embedder is not None and not embedder.price_per_image

    def for_access(self, access: Access) -> "AppContext":
        """Return the context of a request with this *access*."""
        copied = copy.copy(self)
        copied.access = access
        return copied

    async def collections(self) -> list[Collection]:
        """Return the collections that the request may see, at most a second old."""
        buckets = self.settings.buckets
        return [
            each
            for each in await self.collection_cache.all()
            if (not buckets or each.bucket in buckets) and self.access.sees(each.bucket)
        ]

    async def counts(self) -> dict[Collection, Counts]:
        """Return the counts of the collections that the request may see, without those dropped meanwhile."""
        return await self.database.read(stats.counts_of_each, await self.collections())

    async def collection(self, bucket: str | None, *, fresh: bool = False) -> Collection:
        """Return the collection of *bucket*, or the default one; raise a 404 that names it.

        Unless *fresh*, it may be up to a second old: dropped meanwhile, or switched to another model.
        """
        default = self.settings.bucket
        wanted = bucket or (default if default and self.access.sees(default) else None)
        # If it is missing, it may have been created within the last second.
        for clear in (True,) if fresh else (False, True):
            if clear:
                self.collection_cache.clear()
            for collection in await self.collections():
                if wanted is None or collection.bucket == wanted:
                    return collection
        if wanted is None:
            raise Problem(404, "there is no collection yet: create one with `syncer sync DIR --bucket NAME`")
        raise Problem(404, f"there is no collection {wanted[:100]!r}: /api/collections lists them")

    async def with_collection(
        self,
        bucket: str | None,
        work: Callable[Concatenate[Collection, P], Awaitable[T]],
        /,
        *args: P.args,
        **kwargs: P.kwargs,
    ) -> T:
        """Return ``work(collection, *args, **kwargs)`` for the collection of *bucket*.

        If the cached collection turns out to be stale, dropped or switched to another model, *work* runs again with
        the current one, up to five times. Raises a transient ServiceError when it keeps changing.
        """
        error: Exception | None = None
        for pause in ATTEMPT_PAUSES:
            await asyncio.sleep(pause)
            collection = await self.collection(bucket, fresh=error is not None)
            try:
                return await work(collection, *args, **kwargs)
            except (ModelChanged, UndefinedTable) as exc:
                error = exc
        raise ServiceError(f"the collection {collection.bucket!r} keeps changing: try again", transient=True) from error

    async def close(self) -> None:
        """Release connections, files and processes."""
        await self.embedders.close()
        if self._local_encoder:
            await self._local_encoder.close()
        await self.stores.close()
        await self.decoder.close()


@asynccontextmanager
async def open_context(settings: ServerSettings, fetcher: UrlFetcher) -> AsyncIterator[AppContext]:
    """Open the context for the duration of the block. The database connects in the background."""
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
        context = AppContext(settings, database, fetcher)
        stack.push_async_callback(context.close)
        pool_metrics = asyncio.create_task(metrics.watch_pools(database))
        stack.callback(pool_metrics.cancel)
        yield context


def app_context(request: Request) -> AppContext:
    """Return the context for *request*."""
    context: AppContext = request.app.state.context
    return context.for_access(request.state.access)
