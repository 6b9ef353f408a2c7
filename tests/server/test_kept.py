"""Pages that were asked for before: shown again while nothing was written, and never afterwards."""

import asyncio
import os
import random
import signal
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import psycopg
import pytest
import pytest_asyncio

from server.cache.pages import KeptPages
from server.search.query import Query
from server.search.ranking import Search
from shared.db import embedded, migrate
from shared.db.pool import Connection, Database
from shared.models import Collection, Filters, NewImage
from shared.sql import collections, images, vector_text
from tests.fakes.pgbouncer import pooled
from tests.helpers.processes import make_environment, make_home, serving

DIMENSIONS, COUNT = 8, 30
NOW = datetime(2026, 1, 1, tzinfo=UTC)


@pytest.fixture(scope="module")
def quiet(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of a PostgreSQL in which nobody writes but these tests."""
    unsafe = {"fsync": "off", "synchronous_commit": "off", "full_page_writes": "off"}
    home = tmp_path_factory.mktemp("quiet")
    server = asyncio.run(embedded.start(home, settings=unsafe | {"autovacuum": "off"}))
    yield server.url
    asyncio.run(server.release())


@pytest_asyncio.fixture
async def database(quiet: str) -> AsyncIterator[Database]:
    opened = Database(quiet, max_connections=2, retry_timeout=20)
    await opened.open()
    yield opened
    await opened.close()


@pytest_asyncio.fixture
async def collection(database: Database) -> Collection:
    """A new collection of some images with vectors."""

    async def make(conn: Connection) -> Collection:
        await migrate.migrate(conn)
        if (old := await collections.find(conn, "b")) is not None:
            await collections.drop(conn, old)
            await conn.execute("DELETE FROM collection_migrations")
        made = await collections.ensure(conn, "b", model="m", dimensions=DIMENSIONS, now=NOW)
        for number in range(COUNT):
            await images.add(conn, made, new_image(number), now=NOW)
        for number in range(COUNT):
            await conn.execute(*with_vector(number, f"{number:04}.jpg"))
        await conn.execute("DELETE FROM b_queue")
        return made

    return await database.run(make)


@pytest.fixture
def pages(database: Database) -> KeptPages:
    return KeptPages(database)


def new_image(number: int) -> NewImage:
    key = f"{number:04}.jpg"
    return NewImage(key, key.encode(), 1, "image/jpeg", 1 + number % 2, 1, "folder")


def a_vector(seed: int) -> Any:
    vector = np.random.default_rng(seed).normal(size=DIMENSIONS)
    return (vector / np.linalg.norm(vector)).astype(np.float16).astype(np.float32)


def with_vector(seed: int, key: str) -> tuple[str, list[str]]:
    return "UPDATE b_embeddings SET embedding = %s WHERE r2_key = %s", [vector_text(a_vector(seed).tolist()), key]


def keys(page: tuple[list[Any], None]) -> list[str]:
    return [image.key for image in page[0]]


def wait_until_it_answers(url: str) -> None:
    deadline = time.monotonic() + 60
    while True:
        try:
            psycopg.connect(url).close()
        except psycopg.OperationalError:
            assert time.monotonic() < deadline
            time.sleep(0.05)
        else:
            return


class Asked:
    """A page of the newest images, and how often the database was asked for it."""

    def __init__(self, collection: Collection) -> None:
        self.times = 0
        self._collection = collection

    async def __call__(self, conn: Connection) -> tuple[list[Any], None]:
        self.times += 1
        return await images.recent(conn, self._collection, limit=5), None


async def test_a_page_is_asked_for_once_while_nothing_is_written(pages: KeptPages, collection: Collection) -> None:
    find = Asked(collection)
    first = await pages.read("recent", find)
    assert [await pages.read("recent", find) for _ in range(10)] == [first] * 10
    assert find.times == 1
    await pages.read("something else", find)
    assert find.times == 2


@pytest.mark.parametrize(
    "change",
    [
        "DELETE FROM b_images WHERE r2_key = '0029.jpg'",
        "UPDATE b_images SET caption = 'a boat' WHERE r2_key = '0000.jpg'",
        "UPDATE b_embeddings SET embedding = NULL WHERE r2_key = '0029.jpg'",
        "INSERT INTO b_queue (id, model, due_at) SELECT min(id), 'm', now() FROM b_images",
        "UPDATE collections SET model = 'another'",
        "INSERT INTO calibrations VALUES ('b', 'm', 0, 0, 0, 0, 1, now())",
        "ALTER TABLE b_images ALTER size TYPE numeric",
        "TRUNCATE b_images CASCADE",
    ],
)
async def test_whatever_is_written_the_page_is_asked_for_again(
    change: str, pages: KeptPages, collection: Collection, quiet: str
) -> None:
    find = Asked(collection)
    await pages.read("recent", find)
    with psycopg.connect(quiet, autocommit=True) as conn:
        conn.execute(change.encode())
    await pages.read("recent", find)
    assert find.times == 2


async def test_pages_are_always_those_of_the_database_as_it_is(
    database: Database, pages: KeptPages, collection: Collection
) -> None:
    rng = random.Random(1)
    words = ["0007", "0031", "boat", None]
    queries = [Query(a_vector(100 + at), str(at), words=word) for at, word in enumerate(words)]
    filters = [Filters(), Filters(orientation="square"), Filters(folder="a")]
    there = COUNT

    async def change(conn: Connection) -> None:
        nonlocal there
        some = f"{rng.randrange(there):04}.jpg"
        match rng.randrange(5):
            case 0:
                await images.add(conn, collection, new_image(there), now=NOW)
                there += 1
            case 1:
                await conn.execute("DELETE FROM b_images WHERE r2_key = %s", [some])
            case 2:
                await conn.execute(*with_vector(rng.randrange(1000), some))
            case 3:
                await conn.execute("UPDATE b_images SET caption = 'boat' WHERE r2_key = %s", [some])
            case 4:
                await conn.execute("UPDATE b_images SET r2_key = 'a/' || r2_key WHERE r2_key = %s", [some])

    for _ in range(150):
        if rng.random() < 0.5:
            await database.run(change)
        sought = Search(collection, rng.choice(queries), rng.choice(filters), None, strict=False, embedded=COUNT)
        position = None
        for _ in range(2):
            cursor = str(position)
            found = await sought.page(pages, position, cursor, limit=4)
            assert found == await sought.page(KeptPages(database), position, cursor, limit=4)
            if (position := found[1]) is None or position[0] != "exact":
                break


async def test_what_is_committed_while_a_page_is_looked_for_is_seen_next_time(
    pages: KeptPages, collection: Collection, quiet: str
) -> None:
    find = Asked(collection)

    async def find_beside_a_writer(conn: Connection) -> tuple[list[Any], None]:
        found = await find(conn)
        with psycopg.connect(quiet) as writer:
            writer.execute("DELETE FROM b_images WHERE r2_key = '0029.jpg'")
        return found

    assert keys(await pages.read("recent", find_beside_a_writer))[0] == "0029.jpg"
    assert keys(await pages.read("recent", find))[0] == "0028.jpg"


async def test_what_is_committed_last_of_several_writers_is_seen_at_once(
    pages: KeptPages, collection: Collection, quiet: str
) -> None:
    find = Asked(collection)
    with psycopg.connect(quiet) as first, psycopg.connect(quiet) as second:
        first.execute("DELETE FROM b_images WHERE r2_key = '0029.jpg'")
        second.execute("DELETE FROM b_images WHERE r2_key = '0028.jpg'")
        for writer, newest in ((second, ["0029.jpg", "0027.jpg"]), (first, ["0027.jpg", "0026.jpg"])):
            await pages.read("recent", find)
            writer.commit()
            assert keys(await pages.read("recent", find))[:2] == newest


async def test_nothing_is_believed_of_a_server_that_crashed_since(
    pages: KeptPages, collection: Collection, quiet: str
) -> None:
    find = Asked(collection)
    first = await pages.read("recent", find)
    # It does so without being started again, and may use the numbers of transactions again that it lost.
    with psycopg.connect(quiet, autocommit=True) as witness, psycopg.connect(quiet) as victim:
        os.kill(victim.info.backend_pid, signal.SIGKILL)
        with suppress(psycopg.OperationalError):
            while True:
                witness.execute("SELECT pg_sleep(0.05)")
    wait_until_it_answers(quiet)
    assert await pages.read("recent", find) == first
    assert find.times == 2


async def test_behind_a_pooler_pages_are_always_asked_for(collection: Collection, quiet: str) -> None:
    find = Asked(collection)
    with pooled(quiet) as address:
        database = Database(address, max_connections=1, retry_timeout=5)
        await database.open()
        pages = KeptPages(database)
        for _ in range(3):
            await pages.read("recent", find)
        await database.close()
    assert find.times == 3


async def test_the_pages_asked_for_last_are_kept(
    pages: KeptPages, collection: Collection, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pages, "MOST_IMAGES", 3 * (5 + 1))
    find = Asked(collection)
    for asked in ("a", "b", "c", "a", "d"):
        await pages.read(asked, find)
    assert find.times == 4
    for asked in ("a", "c", "d"):
        await pages.read(asked, find)
    assert find.times == 4
    await pages.read("b", find)
    assert find.times == 5


def test_a_server_tells_how_many_pages_it_kept_and_shows_what_was_written_at_once(
    collection: Collection, quiet: str, shared_folder: Path, tmp_path: Path
) -> None:
    environment = make_environment(make_home(tmp_path / "home", shared_folder), quiet)
    with serving(environment, tmp_path / "log") as server, psycopg.connect(quiet, autocommit=True) as conn:
        keys = server.keys("/api/images", limit=2)
        assert keys == ["0029.jpg", "0028.jpg"]
        assert [server.keys("/api/images", limit=2) for _ in range(5)] == [keys] * 5
        conn.execute("DELETE FROM b_images WHERE r2_key = '0029.jpg'")
        assert server.keys("/api/images", limit=2) == ["0028.jpg", "0027.jpg"]
        figures = server.http.get("/metrics").text.splitlines()
        assert 'image_browser_pages_total{outcome="kept"} 5.0' in figures
        assert 'image_browser_pages_total{outcome="found"} 2.0' in figures
