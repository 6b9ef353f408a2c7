"""Cancellation of work on the database, and prepared statements."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import psycopg
import pytest
import pytest_asyncio

from shared.db.pool import Connection, Database
from shared.errors import ModelChanged
from shared.models import NewImage
from shared.sql import collections, images, next_embeddings, queue, vector_search
from shared.sql.vector_search import VectorQuery
from tests.fakes.pgbouncer import pooled

NOW = datetime(2026, 1, 1, tzinfo=UTC)
Method = Callable[[Callable[[Connection], Awaitable[Any]]], Awaitable[Any]]


@pytest.mark.parametrize(
    "replacement",
    [
        # psycopg's cancel request hit the following statement.
        psycopg.errors.QueryCanceled("canceling statement due to user request"),
        psycopg.InterfaceError("the connection is closed"),
        None,  # asyncio.wait_for() swallowed the cancellation because its task finished at the same time
    ],
)
async def test_cancelled_work_is_not_retried_even_if_the_cancellation_gets_lost(
    database: Database, replacement: psycopg.Error | None
) -> None:
    attempts = 0
    started = asyncio.Event()

    async def work(conn: Connection) -> None:
        nonlocal attempts
        attempts += 1
        started.set()
        try:
            await asyncio.sleep(60)
        except asyncio.CancelledError:
            if replacement:
                raise replacement from None

    task = asyncio.create_task(database.run(work))
    await started.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert attempts == 1


@asynccontextmanager
async def opened(url: str, *, max_connections: int = 1) -> AsyncIterator[Database]:
    database = Database(url, max_connections=max_connections, retry_timeout=5)
    await database.open()
    yield database
    await database.close()


@pytest_asyncio.fixture
async def single(database_url: str) -> AsyncIterator[Database]:
    """Yield this test's database with a single connection."""
    async with opened(database_url) as database:
        yield database


@pytest.fixture(params=["run", "read"])
def method(request: pytest.FixtureRequest, single: Database) -> Method:
    """Return ``Database.run`` or ``Database.read``."""
    bound: Method = getattr(single, request.param)
    return bound


EVERYTHING = "SELECT * FROM it ORDER BY 1"
PREPARED = "SELECT statement FROM pg_prepared_statements"


async def select_all(conn: Connection) -> list[Any]:
    return await (await conn.execute(EVERYTHING)).fetchall()


async def prepared(conn: Connection) -> list[str]:
    """Return the prepared statements of this session."""
    return [row[0] for row in await (await conn.execute(PREPARED)).fetchall()]


def change(database_url: str, statement: str) -> None:
    """Execute a statement in another session."""
    with psycopg.connect(database_url, autocommit=True) as conn:
        conn.execute(statement.encode())


async def test_a_repeated_statement_is_prepared_on_a_direct_connection(method: Method, database_url: str) -> None:
    change(database_url, "CREATE TABLE it AS SELECT 1 AS number")
    for _ in range(4):
        assert await method(select_all) == [(1,)]
    assert EVERYTHING in await method(prepared)


async def test_nothing_is_prepared_behind_a_transaction_pooler(database_url: str) -> None:
    change(database_url, "CREATE TABLE it AS SELECT 1 AS number")
    with pooled(database_url, connections=2) as address:
        async with opened(address, max_connections=4) as database:
            for work in (database.run, database.read):
                results = await asyncio.gather(*(work(select_all) for _ in range(100)))
                assert results == [[(1,)]] * 100
                assert not any(await asyncio.gather(*(work(prepared) for _ in range(8))))


async def test_a_prepared_statement_survives_changes_of_its_table(method: Method, database_url: str) -> None:
    change(database_url, "CREATE TABLE it AS SELECT 1 AS number")
    for _ in range(4):
        await method(select_all)
    change(database_url, "ALTER TABLE it ALTER number TYPE text, ADD more int DEFAULT 2")
    assert [await method(select_all) for _ in range(4)] == [[("1", 2)]] * 4
    change(database_url, "DROP TABLE it; CREATE TABLE it AS SELECT true AS whether")
    assert [await method(select_all) for _ in range(4)] == [[(True,)]] * 4
    assert EVERYTHING in await method(prepared)


@pytest.mark.parametrize(
    "in_another_session", ["DEALLOCATE ALL", "PREPARE _pg3_1 AS SELECT 1; PREPARE _pg3_2 AS SELECT 2"]
)
async def test_an_undetected_pooler_turns_prepared_statements_off(
    in_another_session: str, method: Method, database_url: str
) -> None:
    async def interfere(conn: Connection) -> None:
        # Inside DO, so that psycopg does not notice.
        await conn.execute(f"DO $$ BEGIN EXECUTE '{in_another_session}'; END $$".encode())

    change(database_url, "CREATE TABLE it AS SELECT 1 AS number")
    for _ in range(4):
        await method(select_all)
    await method(interfere)
    for _ in range(4):
        assert await method(select_all) == [(1,)]
        statements = await method(prepared)
    assert PREPARED not in statements


async def test_prepared_searches_notice_a_switch_of_the_model_at_once(single: Database) -> None:
    run, read = single.run, single.read
    old = await run(collections.ensure, bucket="b", model="offline-v1", dimensions=3, now=NOW)
    image = NewImage("one.jpg", b"one", 1, "image/jpeg", 1, 1, "folder")
    image_id = await run(images.add, collection=old, image=image, now=NOW)
    change_vector = "UPDATE b_embeddings SET embedding = '[1,0,0]'"
    await run(lambda conn: conn.execute(change_vector))
    following = await run(next_embeddings.start, collection=old, model="clip:ViT-B/32", dimensions=2, now=NOW)
    new = next_embeddings.with_next(old, following)
    last: int | None = 0
    while last is not None:
        last = await run(next_embeddings.prepare, collection=new, after=last, limit=10, now=NOW)
    await run(lambda conn: conn.execute("UPDATE b_next SET embedding = '[0,1]'"))
    await run(lambda conn: conn.execute("DELETE FROM b_queue"))
    assert not await run(queue.is_pending, collection=new, model=new.model)

    for _ in range(4):
        assert await read(vector_search.vector_of, collection=old, image_id=image_id) == [1, 0, 0]
        [(hit, _)] = await read(vector_search.exact, old, VectorQuery([1.0, 0.0, 0.0]), limit=5)
        assert hit.score == 1
        await run(next_embeddings.check_model, collection=old)
    assert await run(next_embeddings.switch, collection=old, model=new.model, rollback=False, now=NOW)
    with pytest.raises(ModelChanged):
        await read(vector_search.exact, old, VectorQuery([1.0, 0.0, 0.0]), limit=5)
    with pytest.raises(ModelChanged):
        await run(next_embeddings.check_model, collection=old)
    assert await read(vector_search.vector_of, collection=old, image_id=image_id) == [0, 1]
    [(hit, _)] = await read(vector_search.exact, replace(old, model=new.model), VectorQuery([0.0, 1.0]), limit=5)
    assert hit.score == 1
