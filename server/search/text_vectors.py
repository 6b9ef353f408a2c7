"""Vectors of query texts, cached in memory and in the database."""

import hashlib
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta

import numpy as np

from server import metrics
from server.adapters import Embedders
from server.cache.single_flight import SingleFlightCache
from server.rate_limits import PaidQueries
from server.search.local_text_encoder import LocalTextEncoder
from server.search.terms import normalise
from shared.db.pool import Connection, Database
from shared.embedders.base import Embedder, Vector, unit_vector
from shared.models import Collection
from shared.sql import query_vectors
from shared.timing import timed

MAX_IN_MEMORY = 2000  # texts; 3 kB each
# The database keeps this many texts, the most recently used, until they have not been used for MAX_AGE. Their time of
# use is written once a day.
MAX_STORED = 100_000
MAX_AGE = timedelta(days=90)
TOUCH_INTERVAL = timedelta(days=1)


class TextVectors:
    """Vectors of query texts. A text that any server has searched for before costs no model call."""

    def __init__(
        self, database: Database, embedders: Embedders, paid_queries: PaidQueries, local: LocalTextEncoder | None
    ) -> None:
        """Use *local* in place of a collection's embedder where it applies."""
        self._database = database
        self._embedders = embedders
        self._paid_queries = paid_queries
        self._local = local
        self._vectors: SingleFlightCache[tuple[str, bytes], Vector] = SingleFlightCache(max_entries=MAX_IN_MEMORY)

    async def get(self, collection: Collection, text: str) -> Vector:
        """Return the unit vector of *text*, comparable with the collection's images.

        For a new text: raises ModelError when the model fails, and a 429 when the budget of paid calls is used up.
        """
        embedder = await self._embedder(collection)
        text = normalise(text)
        digest = hashlib.sha256(text.encode()).digest()
        key = embedder.name, digest
        if key in self._vectors:
            metrics.query_vectors.labels("memory").inc()
        return await self._vectors.get(key, self._load, embedder, text, digest)

    async def _embedder(self, collection: Collection) -> Embedder:
        if self._local and self._local.applies_to(collection.model):
            await self._local.verify(collection.model)
            return self._local.embedder
        return self._embedders.get(collection)

    async def _load(self, embedder: Embedder, text: str, digest: bytes) -> Vector:
        found = await self._database.run_autocommit(query_vectors.find, embedder.name, digest)
        metrics.query_vectors.labels("database" if found else "nowhere").inc()
        if found is None:
            return await self._embed(embedder, text, digest)
        values, used_at = found
        vector = from_stored(values)
        if datetime.now(UTC) - used_at > TOUCH_INTERVAL:
            await self._database.run(_save, embedder.name, digest, vector)
        return vector

    async def _embed(self, embedder: Embedder, text: str, digest: bytes) -> Vector:
        await self._paid_queries.spend(embedder)
        with timed("model"), metrics.model_call(embedder.name):
            vector: Vector = (await embedder.embed_texts([text]))[0]
        await self._database.run(_save, embedder.name, digest, vector)
        return as_stored(vector)


def as_stored(vector: Vector) -> Vector:
    """Return the unit vector that the database would give back for *vector*, rounded to half precision.

    With the unrounded vector, the second page of a search on another server would have a slightly different order.
    """
    return unit_vector(vector.astype(np.float16), dimensions=len(vector))


def from_stored(values: Sequence[float]) -> Vector:
    """Return the unit vector of *values* from the database."""
    # They are the shortest decimals that identify single-precision numbers: round to those first.
    return unit_vector(np.asarray(values, np.float32), dimensions=len(values))


async def _save(conn: Connection, model: str, digest: bytes, vector: Vector) -> None:
    now = datetime.now(UTC)
    await query_vectors.save(conn, model, digest, vector.tolist(), now=now)
    # One text in 256, chosen by its digest, pays for pruning.
    if digest[0] == 0:
        await query_vectors.prune(conn, unused_since=now - MAX_AGE, keep=MAX_STORED)
