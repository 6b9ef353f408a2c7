"""One transaction for what several tasks write at the same time."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Generic, TypeVar

from shared.db.pool import Connection, Database
from shared.errors import ServiceError

T = TypeVar("T")
R = TypeVar("R")


@dataclass
class _Batch(Generic[T, R]):
    items: list[T] = field(default_factory=list)
    complete: asyncio.Event = field(default_factory=asyncio.Event)
    ended: asyncio.Event = field(default_factory=asyncio.Event)
    results: Sequence[R] | None = None
    outage: ServiceError | None = None


class Gathering(Generic[T, R]):
    """Does a piece of work on many items, several in one transaction, which costs hardly more for ten than for one.

    An item waits up to *window* seconds, until as many have come as *enough* says. *work* gets them in the order in
    which they came, and returns one result for each; it must be safe to repeat, like all that a Database runs.
    """

    def __init__(
        self,
        database: Database,
        work: Callable[[Connection, Sequence[T]], Awaitable[Sequence[R]]],
        *,
        enough: Callable[[], int],
        window: float,
    ) -> None:
        self._database = database
        self._work = work
        self._enough = enough
        self._window = window
        self._open: _Batch[T, R] | None = None

    async def run(self, item: T) -> R:
        """Return the result for *item*, committed; raise what Database.run does, as if *item* had come alone."""
        batch = self._open
        if batch is None:
            batch = self._open = _Batch()
        place = len(batch.items)
        batch.items.append(item)
        if len(batch.items) >= self._enough():
            self._close(batch)
            batch.complete.set()
        if place == 0:
            await self._commit(batch)
        else:
            await batch.ended.wait()
        if batch.outage:
            raise batch.outage
        if batch.results is None:  # because of any of them
            [result] = await self._together([item])
            return result
        return batch.results[place]

    async def _commit(self, batch: _Batch[T, R]) -> None:
        try:
            with suppress(TimeoutError):
                async with asyncio.timeout(self._window):
                    await batch.complete.wait()
            self._close(batch)
            batch.results = await self._together(batch.items)
        except ServiceError as exc:
            batch.outage = exc
        except Exception:
            if len(batch.items) == 1:
                raise
        finally:
            # Also when the task that led the others was cancelled: each of them goes on alone.
            self._close(batch)
            batch.ended.set()

    def _close(self, batch: _Batch[T, R]) -> None:
        if self._open is batch:
            self._open = None

    async def _together(self, items: Sequence[T]) -> Sequence[R]:
        return await self._database.run(lambda conn: self._work(conn, items))
