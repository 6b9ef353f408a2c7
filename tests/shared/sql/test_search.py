"""Nearest neighbours on a real PostgreSQL, held against brute force in NumPy."""

from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any
from uuid import uuid4

import numpy as np
import psycopg
import pytest
import pytest_asyncio
from numpy.typing import NDArray

from shared.db.pool import Database
from shared.model import Collection
from shared.sql import collections, search, vector_text

DIMENSIONS = 32
NOW = datetime(2026, 1, 1, tzinfo=UTC)


def unit(count: int, *, seed: int) -> NDArray[np.float16]:
    """Return random unit vectors as they are stored, in half precision, gathered in clusters as photos are."""
    rng = np.random.default_rng(seed)
    centres = rng.normal(size=(20, DIMENSIONS))
    vectors = centres[rng.integers(0, 20, count)] + rng.normal(size=(count, DIMENSIONS)) * 0.6
    return (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float16)


@pytest_asyncio.fixture
async def collection(database: Database) -> Collection:
    ensure = partial(collections.ensure, bucket="b", model="m", dimensions=DIMENSIONS, now=NOW)
    return await database.run(ensure)


def fill(database_url: str, vectors: NDArray[np.float16]) -> None:
    """Store images 1, 2, … with these vectors; every tenth more has none yet."""
    with psycopg.connect(database_url) as conn:
        with conn.cursor().copy(
            "COPY b_images (r2_key, created_at, origin, sha256, size, content_type, width, height, derivatives,"
            " truncated, keywords) FROM STDIN"
        ) as copy:
            for number in range(len(vectors)):
                key = f"{number:06}.jpg"
                copy.write_row([key, NOW, "folder", key.encode(), 1, "image/jpeg", 1, 1, False, False, []])
        with conn.cursor().copy("COPY b_embeddings (id, r2_key, embedding, created_at) FROM STDIN") as copy:
            for number, vector in enumerate(vectors.astype(np.float64)):
                text = vector_text(vector.tolist()) if number % 11 else None
                copy.write_row([number + 1, f"{number:06}.jpg", text, NOW])


def true_ranking(vectors: NDArray[np.float16], query: list[float]) -> list[int]:
    """Return the ids of all images that have a vector, nearest first."""
    scores = vectors.astype(np.float64) @ np.array(query)
    ids = [number + 1 for number in range(len(vectors)) if number % 11]
    return sorted(ids, key=lambda image_id: -scores[image_id - 1])


async def test_an_exact_walk_gives_every_image_once_in_the_true_order(
    database: Database, collection: Collection, database_url: str
) -> None:
    vectors = unit(500, seed=1)
    fill(database_url, vectors)
    query = unit(1, seed=2)[0].astype(np.float64).tolist()
    found: list[int] = []
    after: Any = None
    while True:
        page = await database.run(
            partial(search.exact, collection=collection, query=query, limit=37, after=after, leave_out=[7])
        )
        found += [hit.image.id for hit, _ in page]
        if len(page) < 37:
            break
        after = (page[-1][1], page[-1][0].image.id)
    scores = vectors.astype(np.float64) @ np.array(query)
    assert sorted(found) == sorted(set(true_ranking(vectors, query)) - {7})
    assert np.all(np.diff([scores[image_id - 1] for image_id in found]) <= 1e-3)
    assert page[0][0].score == pytest.approx(scores[page[0][0].image.id - 1], abs=1e-3)


async def test_a_ranking_over_the_index_is_long_enough_and_nearly_the_true_one(
    database: Database, collection: Collection, database_url: str
) -> None:
    vectors = unit(4000, seed=3)
    fill(database_url, vectors)
    with psycopg.connect(database_url, autocommit=True) as conn:
        # Deleted rows stay in the index until a vacuum, and must not shorten a result.
        conn.execute("DELETE FROM b_images WHERE id % 5 = 0")
        conn.execute("ANALYZE b_embeddings")
    recalls = []
    for seed in range(10):
        query = unit(1, seed=100 + seed)[0].astype(np.float64).tolist()
        ids, scores = await database.run(partial(search.ranking, collection=collection, query=query, depth=2000))
        assert len(ids) == len(set(ids)) == 2000
        assert scores == sorted(scores, reverse=True)
        truth = [image_id for image_id in true_ranking(vectors, query) if image_id % 5]
        recalls.append(len(set(ids[:30]) & set(truth[:30])) / 30)
    assert np.mean(recalls) >= 0.98


async def test_a_walk_through_a_kept_ranking_passes_over_what_was_removed_and_fills_its_pages(
    database: Database, collection: Collection, database_url: str
) -> None:
    fill(database_url, unit(300, seed=4))
    query = unit(1, seed=5)[0].astype(np.float64).tolist()
    ids, scores = await database.run(partial(search.ranking, collection=collection, query=query, depth=120))
    walk = uuid4()
    save = partial(search.save_walk, collection=collection, walk=walk, ids=ids, scores=scores, now=NOW)
    await database.run(save)
    first = await database.run(partial(search.walk_page, collection=collection, walk=walk, after=0, limit=50))
    assert first is not None
    assert [hit.image.id for hit in first[0]] == ids[:50]
    with psycopg.connect(database_url, autocommit=True) as conn:
        conn.execute("DELETE FROM b_images WHERE id = ANY(%s)", [ids[50:60]])
    second = await database.run(partial(search.walk_page, collection=collection, walk=walk, after=first[1], limit=50))
    assert second is not None
    assert [hit.image.id for hit in second[0]] == ids[60:110]
    last = await database.run(partial(search.walk_page, collection=collection, walk=walk, after=second[1], limit=50))
    assert last is not None
    assert ([hit.image.id for hit in last[0]], last[1]) == (ids[110:], None)
    forget = partial(search.forget_walks, before=NOW + timedelta(seconds=1))
    assert await database.run(forget) == 1
    assert await database.run(partial(search.walk_page, collection=collection, walk=walk, after=0, limit=5)) is None
