"""Picks up what changes in a folder while it runs.

The system's notifications say where to look; what is to be done there is decided by the same plan as for the whole
folder. Notifications can be lost, and none come from behind links, so now and then the whole folder is looked at.
"""

import asyncio
import os
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from watchfiles import awatch

from syncer.folder.executor import Uploader
from syncer.folder.ignore import IGNORE_FILE, Selection
from syncer.folder.scan import LocalFile
from syncer.progress import Progress

_POLL = 1.0  # seconds between two looks at whether the folder is there
_GATHER = 200  # milliseconds for which notifications are gathered at most ...
_STEP = 100  # ... unless none came for so long; the system is asked as often, which costs 0.3 % of a core
_SPREAD = 200  # paths that are looked at one by one; of more, the folders that hold them are


@dataclass(frozen=True)
class _Unsettled:
    """A path where something changes.

    ``since`` and ``ready_at``, when to look at it, are of the clock that only goes forward. ``stat`` (size, mtime_ns)
    is how a file was when it was looked at; None where it was not yet.
    """

    since: float
    rest: float
    ready_at: float
    stat: tuple[int, int] | None = None


class Settling:
    """Tells files that are still written from those that are complete, which have not changed for a moment."""

    REST = 0.25  # seconds
    # For a file that has grown for a while, as a slow copy does: it may pause. An empty one is about to be written.
    LONG_REST = 2.0

    def __init__(self) -> None:
        self._paths: dict[str, _Unsettled] = {}
        self.left_out = 0  # how often a file was not at rest

    def changed(self, path: str, *, stat: tuple[int, int] | None = None) -> None:
        """Say that something has just changed at *path*."""
        now = time.monotonic()
        since = self._paths[path].since if path in self._paths else now
        rest = min(max(self.REST, 4 * (now - since)), self.LONG_REST)
        self._paths[path] = _Unsettled(since, rest, now + rest, stat)

    def at_rest(self, file: LocalFile) -> bool:
        """Whether the file is complete; if not, it will be due."""
        known, stat = self._paths.get(file.path), (file.size, file.mtime_ns)
        as_before = known is None or known.stat in (None, stat)
        to_wait = self._seconds_to_wait(file, known)
        if as_before and to_wait <= 0:
            self._paths.pop(file.path, None)
            return True
        self.left_out += 1
        if known and as_before:
            self._paths[file.path] = replace(known, ready_at=time.monotonic() + to_wait, stat=stat)
        else:
            self.changed(file.path, stat=stat)
        return False

    def _seconds_to_wait(self, file: LocalFile, known: _Unsettled | None) -> float:
        """Return in how many seconds the file is at rest if it does not change any more; 0 or less if it is."""
        rest = self.LONG_REST if not file.size else known.rest if known else self.REST
        if file.ctime_ns:
            age = time.time() - max(file.mtime_ns, file.ctime_ns) / 1e9
            # Times that lie ahead are those of another machine's clock, and tell nothing.
            too_young = rest - age if age >= 0 else 0.0
        else:
            # Of this very moment, or of that other clock.
            too_young = 0.0 if known and known.stat == (file.size, file.mtime_ns) else rest
        return max(too_young, known.ready_at - time.monotonic() if known else 0.0)

    def due(self) -> dict[str, float]:
        """Return the paths that are to be looked at by now, each with the moment since when."""
        now = time.monotonic()
        return {path: unsettled.ready_at for path, unsettled in self._paths.items() if unsettled.ready_at <= now}

    def looked_at(self, due: Mapping[str, float]) -> None:
        """Forget those paths of *due* where nothing has changed since they were due."""
        for path, ready_at in due.items():
            if path in self._paths and self._paths[path].ready_at == ready_at:
                del self._paths[path]

    def seconds_until_due(self) -> float:
        """Return in how many seconds the next path is due; infinity when none is."""
        next_at = min((unsettled.ready_at for unsettled in self._paths.values()), default=float("inf"))
        return max(0.0, next_at - time.monotonic())


class Watch:
    """Follows one folder until it is cancelled."""

    def __init__(
        self,
        folder: Path,
        selection: Selection,
        uploader: Uploader,
        settling: Settling,
        progress: Progress,
        *,
        rescan: float,
    ) -> None:
        """*uploader* brings over what is at rest by *settling*; *rescan* is after how many seconds all is looked at."""
        self._folder = folder
        self._selection = selection
        self._uploader = uploader
        self._settling = settling
        self._progress = progress
        self._rescan = rescan
        self._next_scan = 0.0
        self._news = asyncio.Event()
        self._withheld = ""

    async def run(self) -> None:
        """Bring the whole folder over, and then what changes; never return.

        Raises what the uploader raises. While the folder is away or empty, as one is whose disk is not mounted, it is
        waited for, and nothing is taken for deleted.
        """
        while True:
            await self._until_there()
            self._next_scan = 0.0
            async with asyncio.TaskGroup() as tasks:
                listening = tasks.create_task(self._listen())
                await self._follow()
                listening.cancel()

    async def _until_there(self) -> None:
        if await self._is_there():
            return
        self._progress.say(f"waiting for {self._folder}, which is empty or not there: is its disk mounted?")
        while not await self._is_there():
            await asyncio.sleep(_POLL)
        self._progress.say(f"{self._folder} is there")

    async def _is_there(self) -> bool:
        return await asyncio.to_thread(_holds_anything, self._folder)

    async def _listen(self) -> None:
        """Note where the system says that something changed."""
        ask_for_it = False
        while True:
            try:
                async for changes in awatch(
                    self._folder,
                    watch_filter=None,
                    debounce=_GATHER,
                    step=_STEP,
                    force_polling=ask_for_it,
                    poll_delay_ms=2000,
                    ignore_permission_denied=True,
                ):
                    for path in await asyncio.to_thread(self._concerning, [path for _, path in changes]):
                        self._settling.changed(path)
                    self._news.set()
            except FileNotFoundError:
                return  # it has vanished, which is seen elsewhere
            except (OSError, RuntimeError) as exc:
                # Most likely there are too many folders: on Linux, fs.inotify.max_user_watches.
                self._progress.say(f"the system cannot tell what changes: {exc}; the folder is looked through instead")
                ask_for_it = True
                self._next_scan = 0.0
                await asyncio.sleep(_POLL)

    def _concerning(self, changed: Iterable[str]) -> list[str]:
        """Return which of the paths, made relative to the folder, may matter: all but files that are not taken."""
        paths = {os.path.relpath(path, self._folder): path for path in changed}
        if any(os.path.basename(path) == IGNORE_FILE for path in paths):
            self._next_scan = 0.0
        # Whether what is gone was an image, the database knows.
        return [
            path
            for path, absolute in paths.items()
            if path != "." and (not os.path.isfile(absolute) or self._selection.takes(path))
        ]

    async def _follow(self) -> None:
        """Bring over what there is, and what changes; return when the folder has vanished."""
        watching = False
        while await self._is_there():
            self._news.clear()
            if time.monotonic() >= self._next_scan:
                self._next_scan = time.monotonic() + self._rescan
                await self._bring(None)
                if not watching:
                    self._progress.say(f"watching {self._folder}; Ctrl-C ends it")
                watching = True
            elif due := self._settling.due():
                await self._bring(together(list(due)))
                self._settling.looked_at(due)
            await self._until_news()

    async def _bring(self, paths: list[str] | None) -> None:
        left_out = self._settling.left_out
        await self._uploader.run(paths)
        withheld = self._uploader.withheld
        if withheld and self._settling.left_out > left_out:
            # Nothing is removed as long as files are left out: look again when those are written.
            for path in paths or ():
                self._settling.changed(path)
            if paths is None:
                self._next_scan = time.monotonic() + self._settling.LONG_REST
        elif withheld != self._withheld:
            self._withheld = withheld
            if withheld:
                self._progress.say(withheld)

    async def _until_news(self) -> None:
        timeout = min(_POLL, self._settling.seconds_until_due(), self._next_scan - time.monotonic())
        try:
            async with asyncio.timeout(max(0.0, timeout)):
                await self._news.wait()
        except TimeoutError:
            pass


def together(paths: Sequence[str]) -> list[str]:
    """Return *paths*, in order, without those below others of them; where they are many, the folders above instead."""
    chosen = set(paths)
    while True:
        chosen = {path for path in chosen if not any(folder in chosen for folder in _folders_above(path))}
        if len(chosen) <= _SPREAD:
            return sorted(chosen, key=os.fsencode)
        deepest = max(path.count("/") for path in chosen)
        chosen = {path.rpartition("/")[0] if path.count("/") == deepest else path for path in chosen}


def _folders_above(path: str) -> Iterable[str]:
    """Yield the folders that hold *path*, up to "", which is the whole."""
    while path:
        path = path.rpartition("/")[0]
        yield path


def _holds_anything(folder: Path) -> bool:
    try:
        with os.scandir(folder) as entries:
            return any(True for _ in entries)
    except OSError:
        return False
