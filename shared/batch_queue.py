"""Group commit: concurrent callers share the cost of a transaction."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar, cast

from shared.errors import ServiceError

Item = TypeVar("Item")
Result = TypeVar("Result")

_MAX_BATCH = 100  # items
# Pause after a batch of several items, because more are on the way. A lone item never waits.
_COLLECT = 0.02  # seconds


@dataclass(eq=False)
class _QueuedItem(Generic[Item, Result]):
    item: Item
    result: Result | None = None
    done: bool = False
    alone: bool = False  # its batch has failed


class BatchQueue(Generic[Item, Result]):
    """Processes items of concurrent callers in batches, one batch at a time.

    The first caller processes what has been queued until then, in its own task; the others find their results. If a
    batch fails, each of its items is processed alone, so only the caller of a faulty item gets its error. A
    ServiceError is no item's fault: the caller that gets it may repeat the call.
    """

    def __init__(self, process: Callable[[Sequence[Item]], Awaitable[Sequence[Result]]]) -> None:
        """*process* returns one result per item, in order. It must be idempotent and take no effect if it raises."""
        self._process = process
        self._waiting: list[_QueuedItem[Item, Result]] = []
        self._turn = asyncio.Lock()
        self._collect_until = 0.0

    async def run(self, item: Item) -> Result:
        """Return the result of *item*. Cancelling the call leaves the other items in the queue."""
        entry = _QueuedItem[Item, Result](item)
        self._waiting.append(entry)
        try:
            async with self._turn:
                if not entry.done:
                    await self._lead(entry)
        finally:
            if not entry.done:
                self._waiting.remove(entry)
        return cast(Result, entry.result)

    async def _lead(self, entry: _QueuedItem[Item, Result]) -> None:
        if not entry.alone:
            await asyncio.sleep(self._collect_until - asyncio.get_running_loop().time())
            batch = [each for each in self._waiting if not each.alone][:_MAX_BATCH]
            try:
                await self._process_batch(batch)
                if len(batch) > 1:
                    self._collect_until = asyncio.get_running_loop().time() + _COLLECT
                return
            except ServiceError:
                raise
            except Exception:
                if len(batch) == 1:
                    raise
                for each in batch:
                    each.alone = True
        await self._process_batch([entry])

    async def _process_batch(self, batch: Sequence[_QueuedItem[Item, Result]]) -> None:
        results = await self._process([entry.item for entry in batch])
        for entry, result in zip(batch, results, strict=True):
            entry.result, entry.done = result, True
        self._waiting = [entry for entry in self._waiting if not entry.done]
