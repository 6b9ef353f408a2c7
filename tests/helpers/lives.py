"""Simulated processes that are killed or disturbed at any operation on the database, the store or its disk."""

import asyncio
import os
from collections.abc import Awaitable, Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from unittest import mock

from shared.db.pool import Database


class Killed(BaseException):
    """The process is killed here: nothing that it does afterwards has any effect."""


@dataclass
class Life:
    """Countdown to the step at which the process is killed, and to the one at which ``meanwhile`` runs (None: never).

    Each operation on the database or the store is a step before and a step after it, and so is each change of the
    store's disk.
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
                # It may wait for locks of this process.
                await asyncio.wait({self._disturbing}, timeout=0.5)
            self.disturbed_in -= 1

    async def finish(self) -> None:
        """Wait until ``meanwhile`` has finished."""
        if self._disturbing:
            await self._disturbing


class MortalDatabase:
    def __init__(self, database: Database, life: Life) -> None:
        self._database, self._life = database, life

    async def run(self, work: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        await self._life.pause()
        result = await self._database.run(work, *args, **kwargs)
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
    """Make each change of files below *folder* a step."""
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
