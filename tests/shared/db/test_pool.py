"""Cancellation of work on the database, and work through a pooler."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from typing import Any

import psycopg
import pytest
from psycopg.conninfo import conninfo_to_dict, make_conninfo

from shared.db.pool import Connection, Database
from shared.errors import DatabaseError
from tests.fakes.pgbouncer import pooled


async def select(conn: Connection, value: int) -> Any:
    return await (await conn.execute("SELECT %s::int", [value])).fetchone()


@asynccontextmanager
async def opened(url: str, *, retry_timeout: float) -> AsyncIterator[Database]:
    database = Database(url, max_connections=2, retry_timeout=retry_timeout)
    await database.open()
    yield database
    await database.close()


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


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"dbname": "missing"}, "missing"),
        ({"user": "missing"}, "missing"),
        ({"port": "99999"}, "invalid port number"),
    ],
)
async def test_a_connection_that_can_never_succeed_is_not_retried(
    database_url: str, change: dict[str, str], words: str
) -> None:
    async with opened(make_conninfo(database_url, **change), retry_timeout=3600) as database:
        with pytest.raises(DatabaseError, match=words) as refused:
            await database.run(select, 1)
    assert not refused.value.transient


async def test_a_wrong_password_is_not_retried_and_the_right_one_is_noticed(wrong_password: str, postgres: str) -> None:
    async with opened(wrong_password, retry_timeout=3600) as database:
        with pytest.raises(DatabaseError, match="password authentication failed") as refused:
            await database.run(select, 1)
        assert not refused.value.transient
        user, password = (conninfo_to_dict(wrong_password)[name] for name in ("user", "password"))
        with psycopg.connect(postgres, autocommit=True) as conn:
            conn.execute(f"ALTER ROLE {user} PASSWORD '{password}'")

        async def answers() -> bool:
            with suppress(DatabaseError):
                return await database.run(select, 1) == (1,)
            return False

        async with asyncio.timeout(60):
            while not await answers():  # each call waits a moment itself
                pass


async def test_an_outage_that_may_pass_is_reported_with_its_cause_and_duration() -> None:
    reports: list[str] = []
    database = Database(
        "postgresql://user@127.0.0.1:1/images",
        max_connections=2,
        retry_timeout=1,
        checkout_timeout=0.3,
        report=reports.append,
    )
    await database.open()
    with pytest.raises(DatabaseError, match=r"port 1 failed: Connection refused \(retried for \d s\)") as refused:
        await database.run(select, 1)
    assert refused.value.transient
    assert "Connection refused" in reports[0]
    await database.close()


async def test_work_succeeds_behind_a_pooler_in_transaction_mode(database_url: str) -> None:
    with pooled(database_url, connections=2) as address:
        database = Database(address, max_connections=4, retry_timeout=5)
        await database.open()
        for work in (database.run, database.read):
            for _ in range(3):
                assert await asyncio.gather(*(work(select, value) for value in range(50))) == [(v,) for v in range(50)]
        await database.close()
