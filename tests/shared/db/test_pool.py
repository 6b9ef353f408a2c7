"""Work on the database, and what ends it."""

import asyncio

import psycopg
import pytest

from shared.db.pool import Connection, Database


async def test_work_that_is_cancelled_ends_also_when_the_connection_fails_at_that_moment(database: Database) -> None:
    tries = 0
    at_work = asyncio.Event()

    async def work(conn: Connection) -> None:
        nonlocal tries
        tries += 1
        at_work.set()
        try:
            await asyncio.sleep(60)
        except asyncio.CancelledError as exc:
            # As psycopg raises where its request to cancel hits the statement that follows.
            raise psycopg.errors.QueryCanceled("canceling statement due to user request") from exc

    task = asyncio.create_task(database.run(work))
    await at_work.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert tries == 1
