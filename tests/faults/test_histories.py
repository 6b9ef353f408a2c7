"""Random histories of a folder against a model: whatever happened, after a clean run all agree and nothing is lost.

A history is a list of changes to the folder, and of runs that go wrong: killed between any two operations, with a store
that fails, with a folder that cannot be listed, or of a part of the folder alone. In between and at the end are clean
runs. After each of these, the table, the bucket and the folder hold the same, and nothing was uploaded or paid for that
was there already.

``HISTORIES`` is how many are played for each store.
"""

import asyncio
import os
import random
import shutil
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from unittest import mock
from uuid import uuid4

import pytest
from hypothesis import HealthCheck, Phase, event, given, note, settings
from hypothesis import strategies as st

from shared.db.pool import Connection, Database
from shared.errors import ServiceError
from shared.sql import collections
from shared.stores import ObjectStore
from shared.stores.folder import FolderStore
from shared.stores.s3 import S3Store
from syncer.gone import KEEP
from tests.fakes.s3 import Fault, FaultyProxy, Request, S3Server, s3_arguments
from tests.syncer.folders import DELETE_ANY, World, sha256

HISTORIES = int(os.environ.get("HISTORIES", "15"))

PATHS = [
    *("a.bmp", "A.bmp", "a b'\"&%+#.bmp", "b.bmp"),
    *("caf\u00e9.bmp", "cafe\u0301.bmp", "\U0001f984.bmp"),
    *("sub/a.bmp", "sub/deep/\u4e2d.bmp", "Sub/a.bmp", "sub.bmp"),
]
FOLDERS = ["sub", "Sub", "sub/deep", "\u0645\u062c\u0644\u062f"]

path = st.sampled_from(PATHS)
which = st.integers(0, len(PATHS) - 1)  # of the files that are there
content = st.integers(0, 5)
folder = st.sampled_from(FOLDERS)
how = st.sampled_from([DELETE_ANY, KEEP])

CHANGES = {
    "add": st.tuples(path, content),
    "edit": st.tuples(which, content),
    "edit_in_secret": st.tuples(which, content),
    "rename": st.tuples(which, path),
    "swap": st.tuples(which, which),
    "copy": st.tuples(which, path),
    "touch": st.tuples(which),
    "delete": st.tuples(which),
    "change_case": st.tuples(which),
    "rename_folder": st.tuples(folder, folder),
}
RUNS = {
    "clean": st.just(()),
    "clean_again": st.just(()),
    "killed": st.tuples(st.integers(0, 40), how),
    "with_faults": st.tuples(st.integers(0, 2**32), how),
    "with_a_folder_that_cannot_be_listed": st.tuples(folder, how),
    "of_a_part": st.tuples(st.sampled_from([*PATHS, *FOLDERS]), how),
    "without_delete": st.just(()),
}
changes = st.one_of(st.tuples(st.just(name), arguments) for name, arguments in CHANGES.items())
runs = st.one_of(st.tuples(st.just(name), arguments) for name, arguments in RUNS.items())
beginnings = st.lists(content, min_size=len(PATHS), max_size=len(PATHS))
histories = st.lists(st.tuples(st.lists(changes, min_size=1, max_size=6), runs), min_size=2, max_size=8)


class Killed(BaseException):
    """The process would have ended here: nothing that it does afterwards has any effect."""


@dataclass
class Life:
    """Counts down to the operation at which the process is killed; each counts twice, before and behind its effect."""

    left: int

    def step(self) -> None:
        if self.left <= 0:
            raise Killed
        self.left -= 1


class MortalDatabase:
    def __init__(self, database: Database, life: Life) -> None:
        self._database, self._life = database, life

    async def run(self, work: Callable[[Connection], Any]) -> Any:
        self._life.step()
        result = await self._database.run(work)
        self._life.step()
        return result


class MortalStore:
    def __init__(self, store: Any, life: Life) -> None:
        self._store, self._life = store, life

    def __getattr__(self, name: str) -> Any:
        method = getattr(self._store, name)

        async def mortal(*arguments: Any, **more: Any) -> Any:
            self._life.step()
            result = await method(*arguments, **more)
            self._life.step()
            return result

        return mortal if asyncio.iscoroutinefunction(method) else method


@contextmanager
def unlistable(folder: Path) -> Iterator[None]:
    """Root may list every folder; so this one refuses to be."""
    original = os.scandir

    def scandir(path: Any = ".") -> Any:
        if os.fsdecode(path) == str(folder):
            raise PermissionError(13, "Permission denied", str(folder))
        return original(path)

    with mock.patch("os.scandir", scandir):
        yield


@dataclass
class History:
    """What happens to one folder."""

    world: World
    proxy: FaultyProxy | None

    def at(self, path: str) -> Path:
        return self.world.folder / path

    # --- what people do ---

    def file(self, which: int) -> str | None:
        there = sorted(self.world.contents())
        return there[which % len(there)] if there else None

    def add(self, path: str, number: int) -> None:
        if not self.at(path).exists():
            self.world.write(path, number)

    def edit(self, which: int, number: int) -> None:
        if path := self.file(which):
            self.world.write(path, number)

    def edit_in_secret(self, which: int, number: int) -> None:
        if path := self.file(which):
            before = self.at(path).stat()
            self.world.write(path, number)
            os.utime(self.at(path), ns=(before.st_atime_ns, before.st_mtime_ns))

    def rename(self, which: int, new: str) -> None:
        if old := self.file(which):
            self.at(new).parent.mkdir(parents=True, exist_ok=True)
            self.at(old).rename(self.at(new))

    def swap(self, one: int, other: int) -> None:
        a, b = self.file(one), self.file(other)
        if a and b and a != b:
            self.at(a).rename(self.at("aside"))
            self.at(b).rename(self.at(a))
            self.at("aside").rename(self.at(b))

    def copy(self, which: int, new: str) -> None:
        old = self.file(which)
        if old and old != new:
            self.at(new).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(self.at(old), self.at(new))

    def touch(self, which: int) -> None:
        if path := self.file(which):
            os.utime(self.at(path))

    def delete(self, which: int) -> None:
        if path := self.file(which):
            self.at(path).unlink()

    def change_case(self, which: int) -> None:
        if path := self.file(which):
            head, _, name = path.rpartition("/")
            self.rename(which, f"{head}/{name.swapcase()}".lstrip("/").replace(".BMP", ".bmp"))

    def rename_folder(self, old: str, new: str) -> None:
        if self.at(old).is_dir() and not self.at(new).exists() and not new.startswith(f"{old}/"):
            self.at(new).parent.mkdir(parents=True, exist_ok=True)
            self.at(old).rename(self.at(new))

    # --- runs ---

    async def clean(self) -> None:
        """All agree afterwards, and nothing was done that was not needed."""
        world = self.world
        contents = world.contents()
        before, doubtful = await world.rows(), await self._doubtful()
        world.store.clear()
        world.paid.clear()
        counts = await world.sync(deletion=DELETE_ANY)
        assert counts["failed"] == 0
        if contents:
            assert world.withheld == ""
            await world.check(contents)
        else:
            assert (await world.rows()).keys() == before.keys()
        trusted = {key: row for key, row in before.items() if key not in doubtful}
        known = {row.sha256 for row in before.values() if row.vector is not None} - set(doubtful.values())
        assert all(times == 1 and paid not in known for paid, times in world.paid.items())
        there = Counter(row.sha256 for row in trusted.values())
        needed = Counter(sha256(each) for each in contents.values())
        uploads = Counter(sha256(contents[key]) for key in world.store.uploads())
        assert uploads <= needed - there
        ids = {row.id: row.sha256 for row in trusted.values()}
        kept = Counter(row.sha256 for row in (await world.rows()).values() if ids.get(row.id) == row.sha256)
        if contents:
            assert kept == needed & there, "an image that is still there has lost its row"

    clean_again = clean  # it comes twice as often

    async def killed(self, after: int, deletion: Any) -> None:
        world, life = self.world, Life(after)
        uploader = world.uploader(deletion=deletion)
        uploader._database = MortalDatabase(world.database, life)  # type: ignore[assignment]
        uploader._store = MortalStore(world.store, life)
        try:
            await uploader.run()
            event("ran to its end")
        except BaseException as exc:
            if not _only(exc, Killed):
                raise
            event("was killed")

        async def end_turn(conn: Connection) -> None:
            # This process goes on; the lock of one that really was killed says so. See tests/e2e/test_folders.py.
            await conn.execute("DELETE FROM source_leases")

        await world.database.run(end_turn)

    async def with_faults(self, seed: int, deletion: Any) -> None:
        if self.proxy is None:
            return
        rng = random.Random(seed)
        rate = rng.choice([0.05, 0.3, 0.8])
        faults = [
            Fault("status", 500),
            Fault("status", 503, "SlowDown"),
            Fault("reset"),
            Fault("lost"),
            Fault("half"),
            Fault("hang", seconds=0.3),
        ]

        def rule(request: Request) -> Fault | None:
            return rng.choice(faults) if rng.random() < rate else None

        self.proxy.rule = rule
        uploader = self.world.uploader(deletion=deletion, patience=0)
        try:
            await uploader.run()
            event("outlived faults")
        except BaseException as exc:
            if not _only(exc, ServiceError):
                raise
            event("was ended by faults")
        finally:
            self.proxy.rule = lambda request: None

    async def with_a_folder_that_cannot_be_listed(self, folder: str, deletion: Any) -> None:
        before = await self.world.rows()
        with unlistable(self.at(folder)):
            counts = await self.world.sync(deletion=deletion)
        if self.at(folder).is_dir():
            assert counts["failed"] == 1
            assert counts["deleted"] == 0
            # Under another name, if it was moved from there.
            unseen = {(row.id, row.sha256) for key, row in before.items() if key.startswith(f"{folder}/")}
            assert unseen <= {(row.id, row.sha256) for row in (await self.world.rows()).values()}

    async def of_a_part(self, path: str, deletion: Any) -> None:
        await self.world.sync([path], deletion=deletion)

    async def without_delete(self) -> None:
        await self.world.sync()

    async def _doubtful(self) -> dict[str, bytes]:
        """What an upload was about to be stored under, or was to go, when a run ended: key and content."""

        async def read(conn: Connection) -> dict[str, bytes]:
            base = self.world.collection.base
            cur = await conn.execute(f"SELECT r2_key, i.sha256 FROM {base}_trash JOIN {base}_images i ON r2_key = key")
            return dict(await cur.fetchall())

        return await self.world.database.run(read)

    async def play(self, contents: list[int], steps: list[Any]) -> None:
        for path, number in zip(PATHS, contents, strict=True):
            if number:
                self.world.write(path, number)
        await self.clean()
        for changes, (run, arguments) in [*steps, ([("add", ("b.bmp", 0))], ("clean", ()))]:
            for change, operands in changes:
                getattr(self, change)(*operands)
            await getattr(self, run)(*arguments)
        await self.clean()


def _only(exc: BaseException, kind: type[BaseException]) -> bool:
    if isinstance(exc, BaseExceptionGroup):
        # When one task is killed, the others are cancelled.
        return all(_only(each, kind) for each in exc.exceptions)
    return isinstance(exc, (kind, asyncio.CancelledError))


@asynccontextmanager
async def world_of(database_url: str, folder: Path, store: Callable[[str], ObjectStore]) -> AsyncIterator[World]:
    async with AsyncExitStack() as stack:
        database = Database(database_url, max_connections=6, patience=5)
        await database.open()
        stack.push_async_callback(database.close)
        world = await World.make(stack, folder, database, store(f"b{uuid4().hex[:12]}"))
        yield world
        await database.run(lambda conn: collections.drop(conn, world.collection))


def play(database_url: str, folder: Path, store: Callable[[str], ObjectStore], proxy: Any, history: Any) -> None:
    note(repr(history))

    async def run() -> None:
        async with world_of(database_url, folder, store) as world:
            await History(world, proxy).play(*history)

    try:
        asyncio.run(run())
    finally:
        shutil.rmtree(folder, ignore_errors=True)


SETTINGS = settings(
    max_examples=HISTORIES,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow, HealthCheck.data_too_large],
    print_blob=True,
    # A history takes seconds, and shrinking one takes hundreds of them: that is for a long run.
    phases=tuple(Phase) if HISTORIES > 100 else (Phase.explicit, Phase.reuse, Phase.generate),
)


@pytest.mark.timeout(3600 if HISTORIES > 100 else 300)
@SETTINGS
@given(history=st.tuples(beginnings, histories))
def test_a_folder_store_agrees_with_the_folder_after_any_history(
    database_url: str, tmp_path: Path, history: Any
) -> None:
    buckets = tmp_path / "buckets"
    play(database_url, tmp_path / uuid4().hex, lambda bucket: FolderStore(buckets, bucket), None, history)


@pytest.fixture(scope="module")
def s3() -> Iterator[tuple[S3Server, FaultyProxy]]:
    with S3Server() as server, FaultyProxy(server.url) as proxy:
        yield server, proxy


@pytest.mark.timeout(3600 if HISTORIES > 100 else 300)
@SETTINGS
@given(history=st.tuples(beginnings, histories))
def test_s3_agrees_with_the_folder_after_any_history(
    database_url: str, tmp_path: Path, s3: tuple[S3Server, FaultyProxy], history: Any
) -> None:
    server, proxy = s3
    proxy.clear()

    def store(bucket: str) -> ObjectStore:
        server.make_bucket(bucket)
        return S3Store(**s3_arguments(proxy.url, bucket, patience=0.3, timeout=2.0, concurrency=8))

    play(database_url, tmp_path / uuid4().hex, store, proxy, history)
