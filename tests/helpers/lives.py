"""Processes that end, or are disturbed, at any operation on the database, the store or the store's disk."""

import asyncio
import os
from collections.abc import Awaitable, Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from unittest import mock

from shared.db.pool import Connection, Database


class Killed(BaseException):
    """The process would have ended here: nothing that it does afterwards has any effect."""


@dataclass
class Life:
    """Counts down to the step at which the process is killed, and to that at which somebody else does something.

    A step is one side, before or behind, of an operation on the database or the store, and each change of the store's
    disk. None is never.
    """

    ends_in: int | None = None
    disturbed_in: int | None = None
    meanwhile: Callable[[], Awaitable[None]] | None = None
    _disturbing: "asyncio.Task[None] | None" = field(default=None, init=False)

    def step(self) -> None:
        if self.ends_in is not None:
            if self.ends_in <= 0:
                raise Killed
            self.ends_in -= 1

    async def pause(self) -> None:
        self.step()
        if self.disturbed_in is not None and self.meanwhile is not None:
            if self.disturbed_in == 0:
                self._disturbing = asyncio.ensure_future(self.meanwhile())
                # It may have to wait for what this process has locked.
                await asyncio.wait({self._disturbing}, timeout=0.5)
            self.disturbed_in -= 1

    async def settle(self) -> None:
        """Wait for what was done meanwhile."""
        if self._disturbing:
            await self._disturbing


class MortalDatabase:
    def __init__(self, database: Database, life: Life) -> None:
        self._database, self._life = database, life

    async def run(self, work: Callable[[Connection], Any]) -> Any:
        await self._life.pause()
        result = await self._database.run(work)
        await self._life.pause()
        return result


class MortalStore:
    def __init__(self, store: Any, life: Life) -> None:
        self._store, self._life = store, life

    def __getattr__(self, name: str) -> Any:
        method = getattr(self._store, name)

        async def mortal(*arguments: Any, **more: Any) -> Any:
            await self._life.pause()
            result = await method(*arguments, **more)
            await self._life.pause()
            return result

        return mortal if asyncio.iscoroutinefunction(method) else method


@contextmanager
def mortal_disk(folder: Path, life: Life) -> Iterator[None]:
    """Let each change of files below *folder* be a step of the life."""
    with ExitStack() as stack:
        for name in ("replace", "link", "unlink", "mkdir", "rmdir"):
            stack.enter_context(mock.patch.object(os, name, _mortal(getattr(os, name), folder, life)))
        yield


def _mortal(function: Callable[..., None], folder: Path, life: Life) -> Callable[..., None]:
    def mortal(path: Any, *arguments: Any, **more: Any) -> None:
        if Path(path).is_relative_to(folder):
            life.step()
        function(path, *arguments, **more)

    return mortal
