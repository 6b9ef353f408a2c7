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

from shared.db.pool import Connection, Database
from shared.models import Collection, Filters, Ranking
from shared.sql import collections, saved_rankings, vector_search, vector_text

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
    return await database.run(collections.ensure, bucket="b", model="m", dimensions=DIMENSIONS, now=NOW)


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
            vector_search.exact, collection=collection, query=query, limit=37, after=after, exclude=[7]
        )
        found += [hit.image.id for hit, _ in page]
        if len(page) < 37:
            break
        after = (page[-1][1], page[-1][0].image.id)
    scores = vectors.astype(np.float64) @ np.array(query)
    assert sorted(found) == sorted(set(true_ranking(vectors, query)) - {7})
    assert np.all(np.diff([scores[image_id - 1] for image_id in found]) <= 1e-3)
    assert page[0][0].score == pytest.approx(scores[page[0][0].image.id - 1], abs=1e-3)


async def test_the_index_finds_as_many_as_are_asked_for_and_nearly_the_nearest(
    database: Database, collection: Collection, database_url: str
) -> None:
    vectors = unit(2500, seed=3)
    fill(database_url, vectors)
    with psycopg.connect(database_url, autocommit=True) as conn:
        # Deleted rows stay in the index until a vacuum, and must not shorten a result.
        conn.execute("DELETE FROM b_images WHERE id % 5 = 0")
        conn.execute("UPDATE b_images SET camera = 'Canon' WHERE id % 3 = 0")
    for filters, wanted in ((Filters(), 1), (Filters(camera="canon"), 3)):
        recalls = []
        for seed in range(5):
            query = unit(1, seed=100 + seed)[0].astype(np.float64).tolist()
            by_index = partial(
                vector_search.nearest_by_hnsw, collection=collection, query=query, filters=filters, limit=500
            )
            found = await database.run(by_index, candidates=500)
            assert found is not None
            assert len(found.ids) == len(set(found.ids)) == 500
            assert found.scores == sorted(found.scores, reverse=True)
            truth = [n for n in true_ranking(vectors, query) if n % 5 and n % wanted == 0]
            assert await database.run(by_index, candidates=len(truth) + 1) is None
            recalls.append(len(set(found.ids[:30]) & set(truth[:30])) / 30)
        assert np.mean(recalls) >= 0.98


async def test_large_collections_are_searched_by_the_index_and_not_otherwise(
    database: Database, collection: Collection, database_url: str
) -> None:
    fill(database_url, unit(1500, seed=3))
    query = unit(1, seed=1)[0].astype(np.float64).tolist()
    plans: list[str] = []

    async def explained(conn: Connection) -> None:
        await conn.execute("LOAD 'auto_explain'")
        await conn.execute("SET LOCAL auto_explain.log_min_duration = 0; SET LOCAL client_min_messages = log")
        conn.add_notice_handler(lambda notice: plans.append(notice.message_primary or ""))
        for filters in (Filters(), Filters(camera="canon"), Filters(folder="a", min_width=2)):
            await vector_search.nearest_by_hnsw(
                conn, collection, query, filters, candidates=1000, limit=30, exclude=[7]
            )

    await database.run(explained)
    searches = [plan.split("CTE candidates")[1].split("InitPlan")[0] for plan in plans if "CTE candidates" in plan]
    assert len(searches) == 3
    for plan in searches:
        assert "Index Scan using b_hnsw on b_embeddings" in plan
        assert "Sort" not in plan
        assert "Join" not in plan


async def test_a_walk_through_a_kept_ranking_passes_over_what_was_removed_and_fills_its_pages(
    database: Database, collection: Collection, database_url: str
) -> None:
    fill(database_url, unit(300, seed=4))
    query = unit(1, seed=5)[0].astype(np.float64).tolist()
    ranking = await database.run(vector_search.nearest, collection=collection, query=query, limit=120)
    ids, walk = ranking.ids, uuid4()
    await database.run(saved_rankings.save, collection=collection, ranking_id=walk, ranking=ranking, now=NOW)
    page = partial(saved_rankings.page, collection=collection, ranking_id=walk, limit=50)
    first = await database.run(page, after=0)
    assert first is not None
    assert [hit.image.id for hit in first[0]] == ids[:50]
    with psycopg.connect(database_url, autocommit=True) as conn:
        conn.execute("DELETE FROM b_images WHERE id = ANY(%s)", [ids[50:60]])
    second = await database.run(page, after=first[1])
    assert second is not None
    assert [hit.image.id for hit in second[0]] == ids[60:110]
    last = await database.run(page, after=second[1])
    assert last is not None
    assert ([hit.image.id for hit in last[0]], last[1]) == (ids[110:], None)


async def test_kept_rankings_are_forgotten_when_they_are_old_or_many(
    database: Database, collection: Collection
) -> None:
    walks = [uuid4() for _ in range(6)]
    for age, walk in enumerate(walks):
        made = NOW - timedelta(minutes=age)
        await database.run(
            saved_rankings.save, collection=collection, ranking_id=walk, ranking=Ranking([], [], []), now=made
        )

    async def kept() -> list[bool]:
        page = partial(saved_rankings.page, collection=collection, after=0, limit=5)
        return [await database.run(page, ranking_id=walk) is not None for walk in walks]

    forget = partial(saved_rankings.prune, collection=collection)
    assert await database.run(forget, before=NOW - timedelta(minutes=4), keep=10) == 1
    assert await kept() == [True] * 5 + [False]
    assert await database.run(forget, before=NOW - timedelta(minutes=4), keep=3) == 2
    assert await kept() == [True] * 3 + [False] * 3
