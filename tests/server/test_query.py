"""Terms as addresses write them, their sums, and the vectors of texts: kept, shared and forgotten."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import pytest_asyncio
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from server.rate_limits import PaidQueries
from server.search.query import weighted_sum
from server.search.terms import MAX_WEIGHT, Term
from server.search.text_vectors import TextVectors
from shared.db.pool import Connection, Database
from shared.embedders.offline.embedder import OfflineEmbedder
from shared.images.worker_pool import DecoderPool
from shared.models import Collection
from shared.sql import query_images, query_vectors

NOW = datetime(2026, 1, 1, tzinfo=UTC)


COLLECTION = Collection("b", "b", "offline-v1", 384, "b", NOW)


def text_vectors(database: Database, model: OfflineEmbedder) -> TextVectors:
    embedders: Any = SimpleNamespace(get=lambda _collection: model)
    return TextVectors(database, embedders, PaidQueries(database, per_hour=1, per_hour_and_client=1), None)


class Counting(OfflineEmbedder):
    """The offline model, which counts what it is asked."""

    asked: list[str]

    async def embed_texts(self, texts: Sequence[str]) -> NDArray[np.float32]:
        self.asked += texts
        return await super().embed_texts(texts)


@pytest_asyncio.fixture
async def model(shared_folder: Path) -> AsyncIterator[Counting]:
    decoder = DecoderPool(1)
    embedder = Counting(shared_folder / "models", decoder, threads=1)
    embedder.asked = []
    yield embedder
    await embedder.close()
    await decoder.close()


@given(
    st.builds(
        Term,
        st.sampled_from(["text", "image", "query_image"]),
        st.text(min_size=1).map(str.strip).filter(bool),
        st.floats(-MAX_WEIGHT, MAX_WEIGHT).map(lambda weight: round(weight, 9)).filter(bool),
    )
)
def test_what_an_address_writes_is_read_again(term: Term) -> None:
    assert Term.parse(str(term)) == term


@pytest.mark.parametrize(
    "written", ["", "people", "text:", "+text:people", "--text:a", "1e3*text:a", "nan*text:a", "x:a"]
)
def test_what_is_no_term_is_told_so(written: str) -> None:
    with pytest.raises(ValueError, match="KIND:VALUE"):
        Term.parse(written)


def test_a_sum_has_unit_length_and_a_sum_of_nothing_is_none() -> None:
    one, other = np.eye(2, dtype=np.float32)
    made = weighted_sum([3, -4], [one, other])
    assert made is not None
    vector, length = made
    assert length == pytest.approx(5)
    assert vector == pytest.approx([0.6, -0.8])
    assert weighted_sum([2, -2], [one, one]) is None


async def test_concurrent_and_later_searches_for_one_text_share_a_model_call(
    database: Database, model: Counting
) -> None:
    one, other = text_vectors(database, model), text_vectors(database, model)
    vectors = await asyncio.gather(*(one.get(COLLECTION, text) for text in ("a cat", "A  Cat", "a cat ")))
    assert model.asked == ["a cat"]
    # Another server reads the very same vector from the database.
    vectors.append(await other.get(COLLECTION, "a cat"))
    assert model.asked == ["a cat"]
    for vector in vectors:
        assert vector.tolist() == vectors[0].tolist()
        assert np.linalg.norm(vector) == pytest.approx(1, abs=1e-6)


async def test_using_a_text_protects_it_from_pruning(database: Database, model: Counting) -> None:
    await text_vectors(database, model).get(COLLECTION, "a cat")

    async def grow_old(conn: Connection) -> None:
        await conn.execute("UPDATE query_vectors SET used_at = now() - interval '89 days'")

    await database.run(grow_old)
    await text_vectors(database, model).get(COLLECTION, "a cat")
    unused_since = datetime.now(UTC) - timedelta(days=1)
    assert await database.run(query_vectors.prune, unused_since=unused_since, keep=10) == 0


async def test_texts_that_nobody_asks_for_are_forgotten_and_so_are_the_oldest_of_too_many(database: Database) -> None:
    for age in range(10):
        await database.run(
            query_vectors.save, model="m", digest=bytes([age]), vector=[1.0, 0.0], now=NOW - timedelta(days=age)
        )
    forget = partial(query_vectors.prune, unused_since=NOW - timedelta(days=7))
    assert await database.run(forget, keep=100) == 2
    assert await database.run(forget, keep=5) == 3

    async def left(conn: Connection) -> list[int]:
        rows = await (await conn.execute("SELECT digest FROM query_vectors ORDER BY digest")).fetchall()
        return [row[0][0] for row in rows]

    assert await database.run(left) == [0, 1, 2, 3, 4]


async def test_pictures_expire_and_no_more_are_kept_than_may_be(database: Database) -> None:
    for age in range(10):
        await database.run(
            query_images.save,
            model="m",
            digest=bytes([age]),
            vector=[1.0, 0.0],
            handle=f"handle {age}",
            expires_at=NOW + timedelta(days=7 - age),
        )
    assert await database.run(query_images.find, handle="handle 8", now=NOW) is None
    assert await database.run(query_images.prune, now=NOW, keep=100) == 3
    assert await database.run(query_images.prune, now=NOW, keep=4) == 3
    found = [await database.run(query_images.find, handle=f"handle {age}", now=NOW) for age in range(10)]
    assert [picture is not None for picture in found] == [True] * 4 + [False] * 6
    renewed = await database.run(
        query_images.renew, model="m", digest=bytes([3]), now=NOW, expires_at=NOW + timedelta(days=30)
    )
    assert renewed is not None
    assert renewed.expires_at == NOW + timedelta(days=30)
