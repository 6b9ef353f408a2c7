"""What several tasks write at the same time shares a transaction, and yet each stands for itself."""

import asyncio
from collections.abc import Sequence

import pytest
import pytest_asyncio

from shared.db.gathering import Gathering
from shared.db.pool import Connection, Database
from shared.errors import DatabaseError


@pytest_asyncio.fixture(autouse=True)
async def table(database: Database) -> None:
    await database.run(lambda conn: conn.execute("CREATE TABLE numbers (n integer PRIMARY KEY)"))


class Numbers:
    """A table of numbers, each once; the work on several answers with the transaction that each was written in."""

    def __init__(self, database: Database, *, together: int = 3) -> None:
        self.gathering = Gathering(database, self.write, enough=lambda: together, window=0.2)
        self.calls: list[list[int]] = []

    async def write(self, conn: Connection, numbers: Sequence[int]) -> list[int]:
        self.calls.append(list(numbers))
        for number in numbers:
            await conn.execute("INSERT INTO numbers VALUES (%s)", [number])
        row = await (await conn.execute("SELECT pg_current_xact_id()::text::bigint")).fetchone()
        assert row is not None
        return [row[0] * 10 + number for number in numbers]


async def test_what_comes_at_the_same_time_shares_a_transaction_and_each_gets_its_own_result(
    database: Database,
) -> None:
    numbers = Numbers(database)
    results = await asyncio.gather(*(numbers.gathering.run(number) for number in (3, 1, 2)))
    assert [result % 10 for result in results] == [3, 1, 2]
    assert len({result // 10 for result in results}) == 1
    assert numbers.calls == [[3, 1, 2]]


async def test_a_lone_item_does_not_wait_for_others_that_will_not_come(database: Database) -> None:
    numbers = Numbers(database, together=1)
    assert await numbers.gathering.run(1) % 10 == 1
    assert await numbers.gathering.run(2) % 10 == 2


async def test_one_that_fails_does_not_fail_the_others(database: Database) -> None:
    numbers = Numbers(database)
    results = await asyncio.gather(*(numbers.gathering.run(n) for n in (1, 1, 2)), return_exceptions=True)
    failed = [result for result in results if isinstance(result, BaseException)]
    assert len(failed) == 1
    assert "duplicate key" in str(failed[0])


async def test_an_outage_is_told_to_all_once(database: Database) -> None:
    numbers = Numbers(database)
    calls = 0

    async def away(conn: Connection, items: Sequence[int]) -> list[int]:
        nonlocal calls
        calls += 1
        raise DatabaseError("away", transient=True)

    numbers.gathering = Gathering(database, away, enough=lambda: 2, window=30)
    results = await asyncio.gather(*(numbers.gathering.run(n) for n in (1, 2)), return_exceptions=True)
    assert [str(result) for result in results] == ["away", "away"]
    assert calls == 1


@pytest.mark.parametrize("cancelled", [0, 1])
async def test_others_go_on_when_one_is_cancelled(database: Database, cancelled: int) -> None:
    numbers = Numbers(database)
    tasks = [asyncio.create_task(numbers.gathering.run(number)) for number in (1, 2)]
    await asyncio.sleep(0)
    tasks[cancelled].cancel()
    await asyncio.sleep(0)
    tasks += [asyncio.create_task(numbers.gathering.run(number)) for number in (3, 4, 5)]
    results = await asyncio.gather(*tasks, return_exceptions=True)
    assert isinstance(results.pop(cancelled), asyncio.CancelledError)
    assert [result % 10 for result in results if isinstance(result, int)] == [2 - cancelled, 3, 4, 5]
