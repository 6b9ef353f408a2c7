"""Continuous sync of a folder: ``syncer sync --watch``.

File system notifications tell where to sync; the planner decides what to do there. Notifications can be lost, and links
to other folders send none, so from time to time the whole folder is synced.
"""

import asyncio
import os
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from watchfiles import awatch

from syncer.file_names import is_sidecar
from syncer.folder.ignore import IGNORE_FILE
from syncer.folder.scan import LocalFile
from syncer.folder.sidecars import described_files
from syncer.folder.sync import FolderSync

_POLL = 1.0  # seconds between checks whether the folder exists
_DEBOUNCE = 200  # milliseconds in which notifications are collected
_STEP = 100  # milliseconds between polls of the system, which cost 0.3 % of a core
_MAX_PATHS = 200  # paths that are synced one by one; more are replaced by their folders


@dataclass(frozen=True)
class _Change:
    """A path that has changed ``since`` a moment, and may be synced at ``due_at`` (both of the monotonic clock).

    A file must not change for ``quiet`` seconds. ``stat`` (size, mtime_ns) is from the last check; None before it.
    """

    since: float
    quiet: float
    due_at: float
    stat: tuple[int, int] | None = None


class StabilityCheck:
    """Tells complete files from those that are still being written: a complete file has not changed for a while."""

    QUIET = 0.25  # seconds
    # A file that has grown for a while may pause, as in a slow copy. An empty file is about to be written.
    LONG_QUIET = 2.0

    def __init__(self) -> None:
        self._changes: dict[str, _Change] = {}
        self.unstable = 0  # number of times that a file was not stable

    def changed(self, path: str, *, stat: tuple[int, int] | None = None, age: float = 0.0) -> None:
        """Record that *path* has changed *age* seconds ago."""
        now = time.monotonic() - age
        since = self._changes[path].since if path in self._changes else now
        quiet = min(max(self.QUIET, 4 * (now - since)), self.LONG_QUIET)
        self._changes[path] = _Change(since, quiet, now + quiet, stat)

    def is_stable(self, file: LocalFile) -> bool:
        """Return whether the file is complete; if not, schedule another check."""
        known, stat = self._changes.get(file.path), (file.size, file.mtime_ns)
        same_stat = known is None or known.stat in (None, stat)
        remaining = self._remaining(file, known)
        if same_stat and remaining <= 0:
            self._changes.pop(file.path, None)
            return True
        self.unstable += 1
        if known and same_stat:
            self._changes[file.path] = replace(known, due_at=time.monotonic() + remaining, stat=stat)
        else:
            self.changed(file.path, stat=stat)
        return False

    def _remaining(self, file: LocalFile, known: _Change | None) -> float:
        """Return the seconds until the file is stable if it does not change again; 0 or less if it is."""
        quiet = self.LONG_QUIET if not file.size else known.quiet if known else self.QUIET
        if file.ctime_ns:
            age = time.time() - max(file.mtime_ns, file.ctime_ns) / 1e9
            # Times in the future are from another machine's clock and mean nothing.
            remaining = quiet - age if age >= 0 else 0.0
        else:
            # The file changed just now, or its times are from such a clock.
            remaining = 0.0 if known and known.stat == (file.size, file.mtime_ns) else quiet
        return max(remaining, known.due_at - time.monotonic() if known else 0.0)

    def due(self) -> dict[str, float]:
        """Return the paths to sync now, each with the time since which it is due."""
        now = time.monotonic()
        return {path: change.due_at for path, change in self._changes.items() if change.due_at <= now}

    def synced(self, due: Mapping[str, float]) -> None:
        """Forget the paths of *due*, except those that have changed since."""
        for path, due_at in due.items():
            if path in self._changes and self._changes[path].due_at == due_at:
                del self._changes[path]

    def seconds_until_due(self) -> float:
        """Return the seconds until the next path is due; infinity if there is none."""
        next_at = min((change.due_at for change in self._changes.values()), default=float("inf"))
        return max(0.0, next_at - time.monotonic())


class Watch:
    """Keeps one folder synced until it is cancelled."""

    def __init__(self, sync: FolderSync, stability: StabilityCheck, *, rescan: float) -> None:
        """*sync* leaves out files that are not stable by *stability*; every *rescan* seconds, sync the whole folder."""
        self._folder = sync.options.folder
        self._selection = sync.options.selection
        self._sync = sync
        self._stability = stability
        self._progress = sync.target.progress
        self._rescan = rescan
        self._next_scan = 0.0
        self._notified = asyncio.Event()
        self._withheld = ""

    async def run(self) -> None:
        """Sync the whole folder, then each change; never return.

        Raises what the sync raises. While the folder is missing or empty, like one whose disk is not mounted, wait for
        it and delete nothing.
        """
        while True:
            await self._wait_for_folder()
            self._next_scan = 0.0
            async with asyncio.TaskGroup() as tasks:
                listening = tasks.create_task(self._listen())
                await self._follow()
                listening.cancel()

    async def _wait_for_folder(self) -> None:
        if await self._has_entries():
            return
        self._progress.say(f"waiting for {self._folder}: it is empty or missing (disk not mounted?)")
        while not await self._has_entries():
            await asyncio.sleep(_POLL)
        self._progress.say(f"{self._folder} is available")

    async def _has_entries(self) -> bool:
        return await asyncio.to_thread(_is_nonempty_folder, self._folder)

    async def _listen(self) -> None:
        """Record the paths that the system reports as changed."""
        force_polling = False
        while True:
            try:
                async for changes in awatch(
                    self._folder,
                    watch_filter=None,
                    debounce=_DEBOUNCE,
                    step=_STEP,
                    force_polling=force_polling,
                    poll_delay_ms=2000,
                    ignore_permission_denied=True,
                ):
                    relevant = await asyncio.to_thread(self._relevant, [path for _, path in changes])
                    for path, age in relevant.items():
                        self._stability.changed(path, age=age)
                    self._notified.set()
            except FileNotFoundError:
                return  # the folder is gone; _follow notices that
            except (OSError, RuntimeError) as exc:
                # Most likely there are too many folders: on Linux, fs.inotify.max_user_watches.
                self._progress.say(f"no file system notifications ({exc}); polling the folder instead")
                force_polling = True
                self._next_scan = 0.0
                await asyncio.sleep(_POLL)

    def _relevant(self, changed: Iterable[str]) -> dict[str, float]:
        """Return the ages of changes by path relative to the folder, without files that are not selected."""
        paths = {os.path.relpath(path, self._folder): path for path in changed}
        for path in list(described_files(self._folder, filter(is_sidecar, paths))):
            paths[path] = str(self._folder / path)
        if any(os.path.basename(path) == IGNORE_FILE for path in paths):
            self._next_scan = 0.0
        # A missing path may have been a folder; the planner looks it up.
        return {
            path: _age(absolute)
            for path, absolute in paths.items()
            if path != "." and (not os.path.isfile(absolute) or self._selection.includes(path))
        }

    async def _follow(self) -> None:
        """Sync the folder, then each change; return when the folder is missing or empty."""
        watching = False
        while await self._has_entries():
            self._notified.clear()
            if time.monotonic() >= self._next_scan:
                self._next_scan = time.monotonic() + self._rescan
                await self._sync_paths(None)
                if not watching:
                    self._progress.say(f"watching {self._folder}; press Ctrl-C to stop")
                watching = True
            elif due := self._stability.due():
                await self._sync_paths(without_nested(list(due)))
                self._stability.synced(due)
            await self._wait_for_notification()

    async def _sync_paths(self, paths: list[str] | None) -> None:
        unstable = self._stability.unstable
        await self._sync.run(paths)
        withheld = self._sync.withheld
        if withheld and self._stability.unstable > unstable:
            # Nothing is deleted while files are left out: sync again when those are complete.
            for path in paths or ():
                self._stability.changed(path)
            if paths is None:
                self._next_scan = time.monotonic() + self._stability.LONG_QUIET
        elif withheld != self._withheld:
            self._withheld = withheld
            if withheld:
                self._progress.say(withheld)

    async def _wait_for_notification(self) -> None:
        timeout = min(_POLL, self._stability.seconds_until_due(), self._next_scan - time.monotonic())
        try:
            async with asyncio.timeout(max(0.0, timeout)):
                await self._notified.wait()
        except TimeoutError:
            pass


def without_nested(paths: Sequence[str]) -> list[str]:
    """Return *paths* in order, without those below others; replace paths by their folders if there are too many."""
    chosen = set(paths)
    while True:
        chosen = {path for path in chosen if not any(folder in chosen for folder in _folders_above(path))}
        if len(chosen) <= _MAX_PATHS:
            return sorted(chosen, key=os.fsencode)
        deepest = max(path.count("/") for path in chosen)
        chosen = {path.rpartition("/")[0] if path.count("/") == deepest else path for path in chosen}


def _folders_above(path: str) -> Iterable[str]:
    """Yield the folders above *path*, up to the top, which is ""."""
    while path:
        path = path.rpartition("/")[0]
        yield path


def _age(path: str) -> float:
    """Return the seconds since the path's last change, at most the time that its notification takes."""
    try:
        status = os.stat(path)
    except OSError:
        return 0.0
    age = time.time() - max(status.st_mtime, status.st_ctime)
    return min(max(age, 0.0), (_DEBOUNCE + _STEP) / 1000)


def _is_nonempty_folder(folder: Path) -> bool:
    try:
        with os.scandir(folder) as entries:
            return any(True for _ in entries)
    except OSError:
        return False
