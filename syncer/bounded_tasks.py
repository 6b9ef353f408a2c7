"""Task groups with a limit."""

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any, ParamSpec

P = ParamSpec("P")


class BoundedTaskGroup(asyncio.TaskGroup):
    """A task group in which at most *limit* started tasks run at a time."""

    def __init__(self, limit: int) -> None:
        super().__init__()
        self._free = asyncio.Semaphore(limit)

    async def start(self, function: Callable[P, Coroutine[Any, Any, None]], *args: P.args, **kwargs: P.kwargs) -> None:
        """Run ``function(*args, **kwargs)`` in a task, once fewer than *limit* tasks are running."""
        await self._free.acquire()
        self.create_task(function(*args, **kwargs)).add_done_callback(lambda _: self._free.release())
