"""Concurrent callers share batches, and an error reaches only the caller of the faulty item."""

import asyncio
from collections.abc import Sequence

import pytest

from shared.batch_queue import BatchQueue
from shared.errors import DatabaseError


class Recorder:
    """Doubles numbers; refuses those in ``faulty``, and every batch while ``down``."""

    def __init__(self) -> None:
        self.batches: list[list[int]] = []
        self.faulty: set[int] = set()
        self.down = False

    async def __call__(self, items: Sequence[int]) -> list[int]:
        self.batches.append(list(items))
        await asyncio.sleep(0)
        if self.down:
            raise DatabaseError("the database is down", transient=True)
        if self.faulty & set(items):
            raise ValueError(f"faulty: {sorted(self.faulty & set(items))}")
        return [2 * item for item in items]


async def test_items_that_arrive_during_a_batch_are_processed_together() -> None:
    recorder = Recorder()
    queue = BatchQueue(recorder)
    first = asyncio.create_task(queue.run(0))
    while not recorder.batches:
        await asyncio.sleep(0)
    assert await asyncio.gather(*(queue.run(number) for number in range(1, 6))) == [2, 4, 6, 8, 10]
    assert await first == 0
    assert recorder.batches == [[0], [1, 2, 3, 4, 5]]


async def test_a_lone_item_is_processed_at_once() -> None:
    recorder = Recorder()
    queue = BatchQueue(recorder)
    for number in range(3):
        running = asyncio.create_task(queue.run(number))
        for _ in range(3):  # turns of the event loop, without any time passing
            await asyncio.sleep(0)
        assert running.done()
    assert recorder.batches == [[0], [1], [2]]


async def test_a_faulty_item_fails_alone() -> None:
    recorder = Recorder()
    recorder.faulty = {3}
    queue = BatchQueue(recorder)
    outcomes = await asyncio.gather(*(queue.run(number) for number in range(6)), return_exceptions=True)
    assert isinstance(outcomes.pop(3), ValueError)
    assert outcomes == [0, 2, 4, 8, 10]
    assert await queue.run(7) == 14


async def test_items_can_be_repeated_after_an_outage() -> None:
    recorder = Recorder()
    recorder.down = True
    queue = BatchQueue(recorder)
    outcomes = await asyncio.gather(*(queue.run(number) for number in range(3)), return_exceptions=True)
    assert all(isinstance(outcome, DatabaseError) for outcome in outcomes)
    recorder.down = False
    assert await asyncio.gather(*(queue.run(number) for number in range(3))) == [0, 2, 4]


async def test_cancelling_one_caller_leaves_the_others_their_results() -> None:
    for cancelled in range(3):
        recorder = Recorder()
        queue = BatchQueue(recorder)
        tasks = [asyncio.create_task(queue.run(number)) for number in range(3)]
        await asyncio.sleep(0)
        tasks[cancelled].cancel()
        outcomes = await asyncio.gather(*tasks, return_exceptions=True)
        assert isinstance(outcomes.pop(cancelled), asyncio.CancelledError)
        assert outcomes == [2 * number for number in range(3) if number != cancelled]
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0):
                await queue.run(9)
        assert await queue.run(4) == 8
