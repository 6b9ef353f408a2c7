"""Work on the database, what ends it, and what is prepared for it."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import UTC, datetime
from functools import partial
from typing import Any

import psycopg
import pytest
import pytest_asyncio

from shared.db.pool import Connection, Database
from shared.errors import ModelChanged
from shared.models import NewImage
from shared.sql import collections, images, next_embeddings, queue, vector_search
from tests.fakes.pgbouncer import pooled

NOW = datetime(2026, 1, 1, tzinfo=UTC)
Way = Callable[[Callable[[Connection], Awaitable[Any]]], Awaitable[Any]]


@pytest.mark.parametrize(
    "instead",
    [
        # As psycopg raises where its request to cancel hits the statement that follows.
        psycopg.errors.QueryCanceled("canceling statement due to user request"),
        psycopg.InterfaceError("the connection is closed"),
        None,  # as asyncio.wait_for() swallows it where what it waits for ends at that moment
    ],
)
async def test_work_that_is_cancelled_ends_whatever_comes_of_it_at_that_moment(
    database: Database, instead: psycopg.Error | None
) -> None:
    tries = 0
    at_work = asyncio.Event()

    async def work(conn: Connection) -> None:
        nonlocal tries
        tries += 1
        at_work.set()
        try:
            await asyncio.sleep(60)
        except asyncio.CancelledError:
            if instead:
                raise instead from None

    task = asyncio.create_task(database.run(work))
    await at_work.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert tries == 1


@asynccontextmanager
async def opened(url: str, *, max_connections: int = 1) -> AsyncIterator[Database]:
    database = Database(url, max_connections=max_connections, retry_timeout=5)
    await database.open()
    yield database
    await database.close()


@pytest_asyncio.fixture
async def single(database_url: str) -> AsyncIterator[Database]:
    """This test's database, through one connection."""
    async with opened(database_url) as database:
        yield database


@pytest.fixture(params=["run", "read"])
def way(request: pytest.FixtureRequest, single: Database) -> Way:
    """One of the two ways of working on the database."""
    found: Way = getattr(single, request.param)
    return found


EVERYTHING = "SELECT * FROM it ORDER BY 1"
PREPARED = "SELECT statement FROM pg_prepared_statements"


async def all_of_it(conn: Connection) -> list[Any]:
    return await (await conn.execute(EVERYTHING)).fetchall()


async def prepared(conn: Connection) -> list[str]:
    """Return the statements that the server has prepared for this session."""
    return [row[0] for row in await (await conn.execute(PREPARED)).fetchall()]


def change(database_url: str, statement: str) -> None:
    """Let another session do this."""
    with psycopg.connect(database_url, autocommit=True) as conn:
        conn.execute(statement.encode())


async def test_a_statement_that_comes_again_is_prepared_on_a_connection_of_its_own(way: Way, database_url: str) -> None:
    change(database_url, "CREATE TABLE it AS SELECT 1 AS number")
    for _ in range(4):
        assert await way(all_of_it) == [(1,)]
    assert EVERYTHING in await way(prepared)


async def test_nothing_is_prepared_behind_a_pooler_in_transaction_mode(database_url: str) -> None:
    change(database_url, "CREATE TABLE it AS SELECT 1 AS number")
    with pooled(database_url, connections=2) as address:
        async with opened(address, max_connections=4) as database:
            for work in (database.run, database.read):
                found = await asyncio.gather(*(work(all_of_it) for _ in range(100)))
                assert found == [[(1,)]] * 100
                assert not any(await asyncio.gather(*(work(prepared) for _ in range(8))))


async def test_a_prepared_statement_outlives_the_change_of_its_table(way: Way, database_url: str) -> None:
    change(database_url, "CREATE TABLE it AS SELECT 1 AS number")
    for _ in range(4):
        await way(all_of_it)
    change(database_url, "ALTER TABLE it ALTER number TYPE text, ADD more int DEFAULT 2")
    assert [await way(all_of_it) for _ in range(4)] == [[("1", 2)]] * 4
    change(database_url, "DROP TABLE it; CREATE TABLE it AS SELECT true AS whether")
    assert [await way(all_of_it) for _ in range(4)] == [[(True,)]] * 4
    assert EVERYTHING in await way(prepared)


@pytest.mark.parametrize(
    "in_another_session", ["DEALLOCATE ALL", "PREPARE _pg3_1 AS SELECT 1; PREPARE _pg3_2 AS SELECT 2"]
)
async def test_statements_are_prepared_no_more_where_a_pooler_that_was_not_noticed_mixes_them_up(
    in_another_session: str, way: Way, database_url: str
) -> None:
    async def mix_up(conn: Connection) -> None:
        # Where psycopg does not see it.
        await conn.execute(f"DO $$ BEGIN EXECUTE '{in_another_session}'; END $$".encode())

    change(database_url, "CREATE TABLE it AS SELECT 1 AS number")
    for _ in range(4):
        await way(all_of_it)
    await way(mix_up)
    for _ in range(4):
        assert await way(all_of_it) == [(1,)]
        there = await way(prepared)
    assert PREPARED not in there


async def test_prepared_searches_see_the_switch_to_another_model_at_once(single: Database) -> None:
    run, read = single.run, single.read
    old = await run(partial(collections.ensure, bucket="b", model="offline-v1", dimensions=3, now=NOW))
    image = NewImage("one.jpg", b"one", 1, "image/jpeg", 1, 1, "folder")
    image_id = await run(partial(images.add, collection=old, image=image, now=NOW))
    change_vector = "UPDATE b_embeddings SET embedding = '[1,0,0]'"
    await run(lambda conn: conn.execute(change_vector))
    shadow = await run(partial(next_embeddings.start, collection=old, model="clip:ViT-B/32", dimensions=2, now=NOW))
    new = next_embeddings.with_next(old, shadow)
    last: int | None = 0
    while last is not None:
        last = await run(partial(next_embeddings.prepare, collection=new, after=last, limit=10, now=NOW))
    await run(lambda conn: conn.execute("UPDATE b_next SET embedding = '[0,1]'"))
    await run(lambda conn: conn.execute("DELETE FROM b_queue"))
    assert not await run(partial(queue.is_pending, collection=new, model=new.model))

    for _ in range(4):
        assert await read(partial(vector_search.vector_of, collection=old, image_id=image_id)) == [1, 0, 0]
        [(hit, _)] = await read(partial(vector_search.exact, collection=old, query=[1.0, 0.0, 0.0], limit=5))
        assert hit.score == 1
        await run(partial(next_embeddings.check_model, collection=old))
    assert await run(partial(next_embeddings.switch, collection=old, model=new.model, rollback=False, now=NOW))
    with pytest.raises(ModelChanged):
        await read(partial(vector_search.exact, collection=old, query=[1.0, 0.0, 0.0], limit=5))
    with pytest.raises(ModelChanged):
        await run(partial(next_embeddings.check_model, collection=old))
    assert await read(partial(vector_search.vector_of, collection=old, image_id=image_id)) == [0, 1]
    [(hit, _)] = await read(
        partial(vector_search.exact, collection=replace(old, model=new.model), query=[0.0, 1.0], limit=5)
    )
    assert hit.score == 1
