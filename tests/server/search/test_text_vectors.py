"""Vectors of query texts: cached, shared between servers and pruned."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import pytest_asyncio
from numpy.typing import NDArray

from server.rate_limits import PaidQueries
from server.search.text_vectors import TextVectors
from shared.db.pool import Connection, Database
from shared.embedders.offline.embedder import OfflineEmbedder
from shared.images.worker_pool import DecoderPool
from shared.models import Collection
from shared.sql import query_vectors

NOW = datetime(2026, 1, 1, tzinfo=UTC)
COLLECTION = Collection("b", "b", "offline-v1", 384, "b", NOW)


class CountingEmbedder(OfflineEmbedder):
    """The offline model, recording the texts that it embeds."""

    texts: list[str]

    async def embed_texts(self, texts: Sequence[str]) -> NDArray[np.float32]:
        self.texts += texts
        return await super().embed_texts(texts)


@pytest_asyncio.fixture
async def embedder(shared_folder: Path) -> AsyncIterator[CountingEmbedder]:
    decoder = DecoderPool(1)
    embedder = CountingEmbedder(shared_folder / "models", decoder, threads=1)
    embedder.texts = []
    yield embedder
    await embedder.close()
    await decoder.close()


def text_vectors(database: Database, embedder: OfflineEmbedder) -> TextVectors:
    embedders: Any = SimpleNamespace(get=lambda _collection: embedder)
    return TextVectors(database, embedders, PaidQueries(database, per_hour=1, per_hour_and_client=1), None)


async def test_concurrent_and_later_searches_for_one_text_share_a_model_call(
    database: Database, embedder: CountingEmbedder
) -> None:
    one, other = text_vectors(database, embedder), text_vectors(database, embedder)
    vectors = await asyncio.gather(*(one.get(COLLECTION, text) for text in ("a cat", "A  Cat", "a cat ")))
    # Another server reads the very same vector from the database.
    vectors.append(await other.get(COLLECTION, "a cat"))
    assert embedder.texts == ["a cat"]
    for vector in vectors:
        assert vector.tolist() == vectors[0].tolist()
        assert np.linalg.norm(vector) == pytest.approx(1, abs=1e-6)


async def test_using_a_text_protects_it_from_pruning(database: Database, embedder: CountingEmbedder) -> None:
    async def age(conn: Connection) -> None:
        await conn.execute("UPDATE query_vectors SET used_at = now() - interval '89 days'")

    await text_vectors(database, embedder).get(COLLECTION, "a cat")
    await database.run(age)
    await text_vectors(database, embedder).get(COLLECTION, "a cat")
    unused_since = datetime.now(UTC) - timedelta(days=1)
    assert await database.run(query_vectors.prune, unused_since=unused_since, keep=10) == 0
