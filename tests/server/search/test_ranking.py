"""Searches read page by page from a real PostgreSQL, compared with brute force in NumPy."""

import json
import re
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from typing import Any, get_args

import numpy as np
import psycopg
import pytest
import pytest_asyncio
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from server.problem import Problem
from server.search import ranking
from server.search.fusion import VISUAL_DEPTH
from server.search.query import Query
from server.search.ranking import RankedSearch
from shared.db.pool import Database
from shared.models import Collection, Filters, Hit, Sort, TakenSort
from shared.sql import collections, images, vector_search, vector_text
from shared.sql.filters import EVERYTHING

DIMENSIONS = 16
NOW = datetime(2026, 1, 1, tzinfo=UTC)
LOCAL = NOW.replace(tzinfo=None)
FOLDERS = ["", "a/", "a/b/", "ab/", "a0/"]
CAMERAS = [None, "Canon", "Nikon"]
SORTS: list[Sort] = ["-created", "created", *get_args(TakenSort)]

# The examples share a database; each fills its collection anew.
EXAMPLES = settings(
    max_examples=25,
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)


@dataclass
class Filled:
    """A collection with random images: the image with id ``n + 1`` is at ``n`` in the arrays."""

    collection: Collection
    vectors: NDArray[np.float16]  # [images, DIMENSIONS]
    pending: NDArray[np.bool_]
    rows: list[dict[str, Any]] = field(default_factory=list)

    @property
    def embedded(self) -> int:
        """The number of images with a vector."""
        return int(np.sum(~self.pending))

    def key(self, image_id: int) -> str:
        """Return the key of an image."""
        return str(self.rows[image_id - 1]["key"])

    def wanted(self, filters: Filters) -> set[int]:
        """Return the ids of the images that pass the filters."""
        return {n + 1 for n, row in enumerate(self.rows) if _passes(row, filters)}

    def by_date(self, ids: set[int], sort: Sort) -> list[int]:
        """Return the ids in the order of *sort*."""
        times = {i: _made(i - 1) if sort.endswith("created") else _moment(self.rows[i - 1]) for i in ids}
        dated = sorted((i for i in ids if times[i]), key=lambda i: (times[i], i), reverse=sort.startswith("-"))
        return [*dated, *sorted(ids.difference(dated), reverse=sort.startswith("-"))]

    def ranked(self, query: NDArray[np.float32], among: set[int]) -> dict[int, float]:
        """Return ids and scores of the images with a vector, nearest first."""
        scores = self.vectors.astype(np.float64) @ query.astype(np.float64)
        ids = [n + 1 for n in range(len(scores)) if not self.pending[n] and n + 1 in among]
        return {image_id: scores[image_id - 1] for image_id in sorted(ids, key=lambda i: (-scores[i - 1], i))}


def search_by_index(patch: pytest.MonkeyPatch) -> None:
    """Search by the index even in a small collection."""
    patch.setattr(vector_search, "ROWS_PER_RESULT", 0)
    patch.setattr(vector_search, "max_filtered", lambda rows, limit: 0)


def search(filled: Filled, query: Query, filters: Filters = EVERYTHING) -> RankedSearch:
    return RankedSearch(filled.collection, query, filters, threshold=None, strict=False, embedded=filled.embedded)


def _passes(row: dict[str, Any], filters: Filters) -> bool:
    taken, shape = row["taken_local"], _orientation(row["width"], row["height"])

    def chosen(name: str, has: Callable[[str], bool]) -> bool:
        wanted, excluded = getattr(filters, name), getattr(filters, f"not_{name}")
        return (not wanted or any(map(has, wanted))) and not any(map(has, excluded))

    return (
        chosen("camera", lambda camera: (row["camera"] or "").lower() == camera.lower())
        and chosen("folder", lambda folder: row["key"].startswith(f"{folder}/"))
        and chosen("orientation", lambda orientation: shape == orientation)
        and chosen("type", lambda media_type: row["content_type"] == media_type)
        and (filters.taken_after is None or (taken is not None and taken >= filters.taken_after))
        and (filters.taken_before is None or (taken is not None and taken < filters.taken_before))
        and all(
            (low is None or row[side] >= low) and (high is None or row[side] <= high)
            for side, low, high in (
                ("width", filters.min_width, filters.max_width),
                ("height", filters.min_height, filters.max_height),
                ("size", filters.min_size, filters.max_size),
            )
        )
    )


def _orientation(width: int, height: int) -> str:
    return "landscape" if width > height else "portrait" if width < height else "square"


def fill(database_url: str, collection: Collection, count: int, *, seed: int, pending: float = 0.1) -> Filled:
    """Fill the collection anew with images in clusters, as photos are; some are twins, some have no vector."""
    rng = np.random.default_rng(seed)
    centres = rng.normal(size=(5, DIMENSIONS))
    vectors = centres[rng.integers(0, 5, count)] + rng.normal(size=(count, DIMENSIONS)) * 0.4
    if count:
        twins = rng.integers(0, count, count // 10)
        vectors[rng.integers(0, count, count // 10)] = vectors[twins]
    vectors = (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float16)
    rows = [
        {
            "key": f"{FOLDERS[rng.integers(len(FOLDERS))]}{n:06}.jpg",
            "camera": CAMERAS[rng.integers(len(CAMERAS))],
            "taken_local": None if rng.random() < 0.2 else LOCAL - timedelta(days=int(rng.integers(0, 9))),
            "taken_offset": [None, 0, -720, 840][rng.integers(4)],
            "width": int(rng.integers(1, 5)),
            "height": int(rng.integers(1, 5)),
            "size": int(rng.integers(1, 9)),
            "content_type": ["image/jpeg", "image/png"][rng.integers(2)],
        }
        for n in range(count)
    ]
    filled = Filled(collection, vectors, rng.random(count) < pending, rows)
    with psycopg.connect(database_url) as conn:
        conn.execute(
            "TRUNCATE b_images, b_embeddings, b_queue, b_files, b_counts, b_texts, saved_rankings RESTART IDENTITY"
        )
        _insert(conn, filled, range(count))
    return filled


def _made(number: int) -> datetime:
    # Some images share a creation time.
    return NOW + timedelta(seconds=number // 3)


def _moment(row: dict[str, Any]) -> datetime | None:
    local, offset = row["taken_local"], row["taken_offset"]
    return local and local - timedelta(minutes=offset or 0)


def _insert(conn: psycopg.Connection[Any], filled: Filled, numbers: range) -> None:
    columns = ["key", "camera", "taken_local", "taken_offset", "width", "height", "size", "content_type"]
    with conn.cursor().copy(
        f"COPY b_images (id, r2_key, {', '.join(columns[1:])},"
        " created_at, origin, sha256, derivatives, truncated, keywords) FROM STDIN"
    ) as copy:
        for n in numbers:
            row = filled.rows[n]
            values = [row[name] for name in columns]
            copy.write_row([n + 1, *values, _made(n), "folder", row["key"].encode(), False, False, []])
    with conn.cursor().copy("COPY b_embeddings (id, r2_key, embedding, created_at) FROM STDIN") as copy:
        for n in numbers:
            text = None if filled.pending[n] else vector_text(filled.vectors[n].astype(np.float64).tolist())
            copy.write_row([n + 1, filled.rows[n]["key"], text, NOW])
    with conn.cursor().copy("COPY b_queue (id, model, due_at) FROM STDIN") as copy:
        for n in numbers:
            if filled.pending[n]:
                copy.write_row([n + 1, "m", NOW])


def random_query(seed: int) -> NDArray[np.float32]:
    """Return a random unit vector."""
    vector = np.random.default_rng(seed).normal(size=DIMENSIONS)
    return (vector / np.linalg.norm(vector)).astype(np.float16).astype(np.float32)


async def read_pages(
    database: Database, ranked: RankedSearch, *, limit: int, between: Callable[[], None] | None = None
) -> list[Hit]:
    """Return all hits of a search, read in pages that must be full and must not repeat images.

    *between* is called after each page.
    """
    pages: list[list[Hit]] = []
    position: Any = None
    while True:
        # A cursor passes the position through JSON.
        cursor = json.dumps(position)
        hits, position = await ranked.page(database, json.loads(cursor), cursor, limit=limit)
        pages.append(hits)
        if position is None:
            break
        assert len(pages) < 10_000
        if between:
            between()
    assert all(len(page) == limit for page in pages[:-1])
    assert pages[-1] or len(pages) == 1 or between
    found = [hit for page in pages for hit in page]
    assert len({hit.image.id for hit in found}) == len(found)
    return found


@pytest_asyncio.fixture
async def collection(database: Database) -> Collection:
    return await database.run(collections.ensure, bucket="b", model="m", dimensions=DIMENSIONS, now=NOW)


def few_of(*values: str) -> st.SearchStrategy[tuple[str, ...]]:
    """A strategy for values of one filter, most often none."""
    return st.just(()) | st.just(()) | st.lists(st.sampled_from(values), max_size=2, unique=True).map(tuple)


some_filters = st.builds(
    Filters,
    taken_after=st.none() | st.integers(0, 9).map(lambda days: LOCAL - timedelta(days=days)),
    taken_before=st.none() | st.integers(0, 9).map(lambda days: LOCAL - timedelta(days=days)),
    camera=few_of("canon", "NIKON", "Leica"),
    not_camera=few_of("canon", "NIKON", "Leica"),
    folder=few_of("a", "a/b", "ab", "b", "A"),
    not_folder=few_of("a", "a/b", "ab", "b", "A"),
    orientation=few_of("landscape", "portrait", "square"),
    not_orientation=few_of("landscape", "portrait", "square"),
    type=few_of("image/png", "image/gif"),
    min_width=st.none() | st.integers(0, 5),
    max_height=st.none() | st.integers(0, 5),
    max_size=st.none() | st.integers(0, 9),
)


@dataclass(frozen=True)
class Case:
    """A random collection, and how it is searched."""

    count: int
    seed: int
    limit: int
    filters: Filters
    complete_limit: int
    max_depth: int
    index: bool


cases = st.builds(
    Case,
    count=st.integers(0, 150),
    seed=st.integers(0, 2**32),
    limit=st.integers(1, 60),
    filters=st.just(Filters()) | some_filters,
    complete_limit=st.sampled_from([20_000, 40, 0]),
    max_depth=st.sampled_from([2_000, 70]),
    index=st.booleans(),
)


@EXAMPLES
@given(case=cases, exclude=st.frozensets(st.integers(1, 150), max_size=3))
async def test_pages_contain_every_image_once_nearest_first(
    database: Database, collection: Collection, database_url: str, case: Case, exclude: frozenset[int]
) -> None:
    filled = fill(database_url, collection, case.count, seed=case.seed)
    query = random_query(case.seed + 1)
    hits = await find_all(database, case, filled, Query(query, "q", exclude=exclude))
    wanted = filled.wanted(case.filters)
    truth = filled.ranked(query, wanted - exclude)
    to_the_end = min(filled.embedded, len(wanted)) <= case.complete_limit
    assert len(hits) == (len(truth) if to_the_end else min(len(truth), case.max_depth))
    scores = [hit.score for hit in hits]
    assert scores == pytest.approx([truth[hit.image.id] for hit in hits], abs=2e-3)
    assert scores == pytest.approx(list(truth.values())[: len(hits)], abs=2e-3)
    assert scores == sorted(scores, reverse=True)


@EXAMPLES
@given(case=cases, words=st.sampled_from(["a", "ab", "b a", "00001", "000012.jpg", "a/b/000012", "jpg", "nothing"]))
async def test_pages_contain_every_text_match_and_every_neighbour_once(
    database: Database, collection: Collection, database_url: str, case: Case, words: str
) -> None:
    filled = fill(database_url, collection, case.count, seed=case.seed)
    query = random_query(case.seed + 1)
    hits = await find_all(database, case, filled, Query(query, "q", words=words))
    found = [hit.image.id for hit in hits]
    wanted = filled.wanted(case.filters)
    matches = {image_id for image_id in wanted if _matches(filled.key(image_id), words)}
    truth = filled.ranked(query, wanted)
    if min(filled.embedded, len(wanted)) <= case.complete_limit:
        assert set(found) == truth.keys() | matches
    else:
        assert matches <= set(found) <= truth.keys() | matches
        assert len(found) >= min(case.max_depth, len(truth))
    assert {hit.image.id for hit in hits if hit.text_match} == matches
    assert all(hit.score == pytest.approx(truth.get(hit.image.id), abs=2e-3) for hit in hits)
    exact = sorted(image_id for image_id in wanted if _is_name(filled.key(image_id), words))
    assert sorted(found[: len(exact)]) == exact


async def test_a_word_in_many_misleading_names_changes_no_strong_match(
    database: Database, collection: Collection, database_url: str
) -> None:
    filled = fill(database_url, collection, 300, seed=1, pending=0)
    query = random_query(2)
    nearest = list(filled.ranked(query, filled.wanted(EVERYTHING)))
    with psycopg.connect(database_url) as conn:
        misleading = nearest[-33:]
        conn.execute("UPDATE b_images SET r2_key = 'snow ' || id || '.jpg' WHERE id = ANY(%s)", [misleading])
        conn.execute("UPDATE b_images SET r2_key = 'glacier.jpg' WHERE id = %s", [nearest[200]])
    threshold = filled.ranked(query, set(nearest))[nearest[49]] - 1e-4

    async def found(words: str) -> list[int]:
        ranked = replace(search(filled, Query(query, words, words=words)), threshold=threshold)
        return [hit.image.id for hit in await read_pages(database, ranked, limit=40)]

    # The second page begins within the strong matches.
    assert await found("snow") == nearest[:50] + misleading + nearest[50:-33]
    assert await found("glacier") == [nearest[200], *nearest[:200], *nearest[201:]]


async def find_all(database: Database, case: Case, filled: Filled, query: Query) -> list[Hit]:
    """Return all hits of a case."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ranking, "COMPLETE_LIMIT", case.complete_limit)
        patch.setattr(ranking, "MAX_DEPTH", case.max_depth)
        if case.index:
            search_by_index(patch)
        return await read_pages(database, search(filled, query, case.filters), limit=case.limit)


def _matches(key: str, words: str) -> bool:
    pieces = re.findall(r"[a-z]+|[0-9]+", key)
    held = all(
        piece in pieces or (piece.isdigit() and any(one.startswith(piece) for one in pieces))
        for piece in re.findall(r"[a-z]+|[0-9]+", words)
    )
    # "a/b/000012" must occur as a whole, which is true of one key only.
    return (held and "/" not in words) or _is_name(key, words)


def _is_name(key: str, words: str) -> bool:
    name = key.rpartition("/")[2]
    return words in (key, name, name.removesuffix(".jpg"))


@EXAMPLES
@given(
    count=st.integers(1, 150),
    seed=st.integers(0, 2**32),
    limit=st.integers(1, 40),
    words=st.sampled_from([None, "a"]),
    index=st.booleans(),
)
async def test_images_deleted_or_added_between_pages_neither_shorten_nor_repeat_them(
    database: Database,
    collection: Collection,
    database_url: str,
    count: int,
    seed: int,
    limit: int,
    words: str | None,
    index: bool,
) -> None:
    filled = fill(database_url, collection, count, seed=seed, pending=0)
    rng = np.random.default_rng(seed)
    order = rng.permutation(count)
    initial, later = sorted(int(n) for n in order[: count // 2]), [int(n) for n in order[count // 2 :]]
    all_deleted: set[int] = set()
    with psycopg.connect(database_url, autocommit=True) as conn:
        conn.execute("DELETE FROM b_images WHERE NOT id = ANY(%s)", [[n + 1 for n in initial]])

        def change() -> None:
            deleted = {int(n) + 1 for n in rng.permutation(initial)[:3]}
            all_deleted.update(deleted)
            conn.execute("DELETE FROM b_images WHERE id = ANY(%s)", [list(deleted)])
            if later:
                _insert(conn, filled, range(later[-1], later.pop() + 1))

        with pytest.MonkeyPatch.context() as patch:
            if index:
                search_by_index(patch)
            ranked = search(filled, Query(random_query(seed + 1), "q", words=words))
            hits = await read_pages(database, ranked, limit=limit, between=change)
    assert {n + 1 for n in initial} - all_deleted <= {hit.image.id for hit in hits}


@EXAMPLES
@given(
    count=st.integers(0, 150),
    seed=st.integers(0, 2**32),
    limit=st.integers(1, 60),
    filters=some_filters,
    sort=st.sampled_from(SORTS),
)
async def test_browsing_with_filters_lists_all_images_by_date_undated_ones_last(
    database: Database,
    collection: Collection,
    database_url: str,
    count: int,
    seed: int,
    limit: int,
    filters: Filters,
    sort: Sort,
) -> None:
    filled = fill(database_url, collection, count, seed=seed)
    found: list[int] = []
    after = None
    while True:
        page = await database.run(images.list_sorted, collection, filters, sort=sort, limit=limit, after=after)
        found += [image.id for image in page]
        if len(page) < limit:
            break
        after = page[-1].time(sort), page[-1].id
    assert found == filled.by_date(filled.wanted(filters), sort)


@pytest.mark.parametrize("sort", SORTS)
async def test_a_search_by_date_lists_the_strong_matches_alone(
    database: Database, collection: Collection, database_url: str, sort: Sort
) -> None:
    filled = fill(database_url, collection, 300, seed=3)
    query = random_query(4)
    ranked = filled.ranked(query, filled.wanted(EVERYTHING))
    threshold = sorted(ranked.values())[-50] - 1e-6
    by_date = replace(search(filled, Query(query, "q")), threshold=threshold, sort=sort)
    hits = await read_pages(database, by_date, limit=7)
    strong = {image_id for image_id, score in ranked.items() if score >= threshold}
    assert [hit.image.id for hit in hits] == filled.by_date(strong, sort)
    assert [hit.score for hit in hits] == pytest.approx([ranked[hit.image.id] for hit in hits], abs=1e-3)


async def test_without_a_threshold_a_search_by_date_keeps_to_the_nearest(
    database: Database, collection: Collection, database_url: str
) -> None:
    filled = fill(database_url, collection, 300, seed=3)
    query = random_query(4)
    hits = await read_pages(database, replace(search(filled, Query(query, "q")), sort="-created"), limit=90)
    nearest = list(filled.ranked(query, filled.wanted(EVERYTHING)))[:VISUAL_DEPTH]
    assert {hit.image.id for hit in hits} == set(nearest)


async def test_index_searches_reach_the_full_depth_with_filters_and_deleted_images(
    database: Database, collection: Collection, database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    filled = fill(database_url, collection, 2000, seed=5)
    with psycopg.connect(database_url, autocommit=True) as conn:
        conn.execute("DELETE FROM b_images WHERE id % 7 = 0")
    remaining = {n for n in range(1, 2001) if n % 7}
    search_by_index(monkeypatch)
    monkeypatch.setattr(ranking, "COMPLETE_LIMIT", 100)
    monkeypatch.setattr(ranking, "MAX_DEPTH", 500)
    for filters in (
        Filters(),
        Filters(camera=("canon",)),
        Filters(folder=("a/b",)),
        Filters(folder=("a/b",), max_size=2),
    ):
        recalls = []
        for number in range(3):
            # PostgreSQL builds graphs at random: some would miss images for a query in no cluster.
            query = filled.vectors[number].astype(np.float32)
            ranked = search(filled, Query(query, "q"), filters)
            hits = await read_pages(database, ranked, limit=80)
            found = [hit.image.id for hit in hits]
            truth = list(filled.ranked(query, filled.wanted(filters) & remaining))
            assert len(found) == min(500, len(truth))
            recalls.append(len({*found[:30]} & {*truth[:30]}) / 30)
            # An image that the index misses on the first page opens the second.
            for part in (hits[:80], hits[80:]):
                scores = [hit.score for hit in part]
                assert scores == sorted(scores, reverse=True)
        assert np.mean(recalls) >= 0.98


async def test_a_cursor_continues_the_same_saved_ranking_every_time(
    database: Database, collection: Collection, database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    filled = fill(database_url, collection, 300, seed=8)
    ranked = search(filled, Query(random_query(1), "q"))
    _, shown = await ranked.page(database, None, None, limit=10)
    second = await ranked.page(database, shown, "cursor", limit=10)
    assert await ranked.page(database, shown, "cursor", limit=10) == second
    with psycopg.connect(database_url) as conn:
        assert conn.execute("SELECT count(*) FROM saved_rankings").fetchone() == (1,)
        conn.execute("DELETE FROM saved_rankings")
    with pytest.raises(Problem, match="search again"):
        await ranked.page(database, second[1], "another", limit=10)
