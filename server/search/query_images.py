"""Pictures to search for: their vectors, stored for a while under a handle, without the pictures.

A handle is random, so it cannot be guessed, and belongs to one model. The same content has the same handle on every
server, and costs one model call.
"""

import asyncio
import hashlib
import secrets
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta

from server import metrics
from server.adapters import Embedders
from server.cache.single_flight import SingleFlightCache
from server.problem import Problem
from server.rate_limits import PaidQueries
from server.request_body import pictures_in_memory
from server.search.text_vectors import from_stored
from server.url_fetcher import FetchRefused, UrlFetcher
from shared.db.pool import Connection, Database
from shared.embedders.base import ImageInput, Vector
from shared.errors import ImageRefused
from shared.images import check_query_picture
from shared.images.decode_memory import machine_memory
from shared.images.worker_pool import DecoderPool
from shared.models import Collection
from shared.sql import query_images
from shared.sql.query_images import QueryImage
from shared.timing import timed

LIFETIME = timedelta(days=7)  # of a handle, from its last upload
MAX_STORED = 50_000  # pictures; beyond it those that expire first are deleted
MAX_URLS = 2000  # vectors by URL, in memory
URL_TTL = 3600.0  # seconds
CONCURRENCY = 16  # pictures, each held in memory; fewer on a small machine


class QueryImages:
    """Uploaded and fetched pictures, by handle, URL or content."""

    def __init__(
        self,
        database: Database,
        embedders: Embedders,
        decoder: DecoderPool,
        paid_queries: PaidQueries,
        fetcher: UrlFetcher,
    ) -> None:
        self._database = database
        self._decoder = decoder
        self._embedders = embedders
        self._paid_queries = paid_queries
        self._fetcher = fetcher
        self._slots = asyncio.Semaphore(pictures_in_memory(CONCURRENCY, machine_memory()))
        # The pages of a search by URL share a fetch.
        self._url_vectors: SingleFlightCache[tuple[str, str], Vector] = SingleFlightCache(
            max_entries=MAX_URLS, ttl=URL_TTL
        )

    @asynccontextmanager
    async def slot(self) -> AsyncIterator[None]:
        """Reserve memory for one picture that has arrived; raise a 503 when too many are being processed."""
        if self._slots.locked():
            raise Problem(503, "too many pictures at once: try again in a moment", headers={"Retry-After": "1"})
        async with self._slots:
            yield

    async def by_handle(self, collection: Collection, handle: str, *, name: str) -> Vector:
        """Return the vector of the picture with this handle; raise a 404 about *name*, its place in the request."""
        found = await self._database.run(query_images.find, handle, now=datetime.now(UTC))
        if found is None:
            raise Problem(404, f"{name} is unknown, or has expired: send the picture to /api/query-images again")
        if found.model != collection.model:
            raise Problem(
                404,
                f"{name} is for another model than that of the collection {collection.bucket!r}: send the picture to"
                f" /api/query-images?bucket={collection.bucket}",
            )
        return from_stored(found.embedding)

    async def by_url(self, collection: Collection, url: str, *, name: str) -> Vector:
        """Return the vector of the picture at *url*, which this process fetches once in URL_TTL."""
        return await self._url_vectors.get((collection.model, url), self._fetch_vector, collection, url, name=name)

    async def fetch(self, url: str, *, name: str) -> bytes:
        """Return the image at *url*; raise a 400 with the reason when it cannot be fetched."""
        try:
            return await self._fetcher.fetch_image(url)
        except FetchRefused as exc:
            shown = url if len(url) <= 100 else f"{url[:100]}…"
            raise Problem(400, f"{name} is {shown!r}: {exc}") from exc

    async def add(self, collection: Collection, content: bytes, *, name: str, url: str = "") -> QueryImage:
        """Return the picture with this content, embedded by the collection's model if its vector is not stored.

        *url* is its source if it was fetched. Raises a 400 for content that is not an image.
        """
        model = self._embedders.get(collection).name
        digest = hashlib.sha256(content).digest()
        now = datetime.now(UTC)
        expires_at = now + LIFETIME
        found = await self._database.run(query_images.renew, model, digest, now=now, expires_at=expires_at)
        if found is None:
            vector = await self._embed(collection, ImageInput(content, url), name=name)
            found = await self._database.run(_save, model, digest, vector, expires_at=expires_at)
        return found

    async def _fetch_vector(self, collection: Collection, url: str, *, name: str) -> Vector:
        content = await self.fetch(url, name=name)
        async with self.slot():
            try:
                await self._decoder.run(check_query_picture, content)
            except ImageRefused as exc:
                raise Problem(400, f"{name} cannot be used: {exc}") from exc
            return from_stored((await self.add(collection, content, name=name, url=url)).embedding)

    async def _embed(self, collection: Collection, image: ImageInput, *, name: str) -> Vector:
        embedder = self._embedders.get(collection)
        if embedder.input_kind == "address" and not image.address:
            raise Problem(
                400,
                f"{name}: {embedder.name}, the model of the collection {collection.bucket!r}, fetches images itself:"
                " give the picture's URL",
            )
        await self._paid_queries.spend(embedder)
        with timed("model"), metrics.model_call(embedder.name):
            (outcome,) = await embedder.embed_images([image])
        if isinstance(outcome, ImageRefused):
            raise Problem(400, f"{name} cannot be used: {outcome}")
        return outcome


async def _save(conn: Connection, model: str, digest: bytes, vector: Vector, *, expires_at: datetime) -> QueryImage:
    await query_images.prune(conn, now=datetime.now(UTC), keep=MAX_STORED)
    handle = secrets.token_urlsafe(16)
    return await query_images.save(conn, model, digest, vector.tolist(), handle=handle, expires_at=expires_at)
