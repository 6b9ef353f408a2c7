"""Cancellation of work on the database, and work through a pooler."""

import asyncio
from typing import Any

import psycopg
import pytest

from shared.db.pool import Connection, Database
from tests.fakes.pgbouncer import pooled


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


async def test_work_succeeds_behind_a_pooler_in_transaction_mode(database_url: str) -> None:
    async def select(conn: Connection, value: int) -> Any:
        return await (await conn.execute("SELECT %s::int", [value])).fetchone()

    with pooled(database_url, connections=2) as address:
        database = Database(address, max_connections=4, retry_timeout=5)
        await database.open()
        for work in (database.run, database.read):
            for _ in range(3):
                assert await asyncio.gather(*(work(select, value) for value in range(50))) == [(v,) for v in range(50)]
        await database.close()
