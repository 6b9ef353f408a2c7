"""Random histories of a folder against a model: after a clean run, folder, bucket and table agree.

A history changes the folder, deletes and adds images through the API of a real server, and runs syncs that go wrong:
killed at any operation, several times in a row, with a failing store, with an unreadable folder, with an image deleted
meanwhile, or of a part of the folder alone. In between and at the end are clean runs. After each of these, the table
and the bucket hold what the folder holds, except for what was deleted and added (see ``expectation``), and nothing was
uploaded or paid for without need.

``HISTORIES`` sets the number of histories for each store.
"""

import asyncio
import os
import random
import shutil
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager, nullcontext
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any
from unittest import mock
from uuid import uuid4

import pytest
from hypothesis import HealthCheck, Phase, event, given, note, settings
from hypothesis import strategies as st

from shared.db.pool import Database
from shared.errors import ServiceError
from shared.object_keys import preview_key, thumbnail_key
from shared.sql import collections
from shared.stores.base import RESERVED_PREFIX, ObjectStore
from shared.stores.folder import FolderStore
from syncer.deletion_policy import DeletionPolicy
from tests.fakes.s3 import Fault, FaultyProxy, Request, S3Server, s3_environment, s3_store
from tests.helpers.expectation import Expectation
from tests.helpers.lives import Killed, Life, MortalDatabase, MortalStore, mortal_disk
from tests.helpers.processes import Server, make_environment, make_home, serving
from tests.helpers.synced_folder import DELETE_ANY, World, bitmap, sha256

HISTORIES = int(os.environ.get("HISTORIES", "12"))
BEARER = {"Authorization": "Bearer api-token-of-tests"}

PATHS = [
    *("a.bmp", "A.bmp", "a b'\"&%+#.bmp", "b.bmp"),
    *("caf\u00e9.bmp", "cafe\u0301.bmp", "\U0001f984.bmp"),
    *("sub/a.bmp", "sub/deep/\u4e2d.bmp", "Sub/a.bmp", "sub.bmp"),
]
FOLDERS = ["sub", "Sub", "sub/deep", "\u0645\u062c\u0644\u062f"]
# Most have one size, so that an edit may keep it.
CONTENTS = [bitmap(number) + bytes(number // 4) for number in range(8)]
NOT_IN_THE_FOLDER = [6, 7]

path = st.sampled_from(PATHS)
which = st.integers(0, len(PATHS) - 1)  # index of an existing file or image
content = st.integers(0, 5)
folder = st.sampled_from(FOLDERS)
how = st.sampled_from([DELETE_ANY, DeletionPolicy()])
# Any content under a key that no file has, or content that no file has under a key that a file may have.
added = st.one_of(
    st.tuples(st.sampled_from(["by the api/a.bmp", "by the api/b.bmp"]), content),
    st.tuples(path, st.sampled_from(NOT_IN_THE_FOLDER)),
)
steps = st.one_of(st.integers(0, 40), st.integers(0, 300))

CHANGES: dict[str, st.SearchStrategy[Any]] = {
    "add": st.tuples(path, content),
    "edit": st.tuples(which, content),
    "edit_in_secret": st.tuples(which, content),
    "rename": st.tuples(which, path),
    "swap": st.tuples(which, which),
    "rotate": st.just(()),
    "copy": st.tuples(which, path),
    "touch": st.tuples(which),
    "delete": st.tuples(which),
    "change_case": st.tuples(which),
    "rename_folder": st.tuples(folder, folder),
    "restore": st.just(()),
    "delete_by_api": st.tuples(which),
    "add_by_api": st.tuples(added),
    "put_into_the_bucket": st.tuples(path, st.sampled_from(NOT_IN_THE_FOLDER)),
}
RUNS: dict[str, st.SearchStrategy[Any]] = {
    "clean": st.just(()),
    "clean_again": st.just(()),
    "killed": st.tuples(st.lists(steps, min_size=1, max_size=3), how),
    "disturbed": st.tuples(steps, which, st.none() | st.integers(0, 100), how),
    "with_faults": st.tuples(st.integers(0, 2**32), how),
    "with_a_folder_that_cannot_be_listed": st.tuples(folder, how),
    "with_its_disk_unmounted": st.tuples(how),
    "of_a_part": st.tuples(st.sampled_from([*PATHS, *FOLDERS]), how),
    "without_delete": st.just(()),
}
changes = st.one_of([st.tuples(st.just(name), arguments) for name, arguments in CHANGES.items()])
runs = st.one_of([st.tuples(st.just(name), arguments) for name, arguments in RUNS.items()])
beginnings = st.lists(content, min_size=len(PATHS), max_size=len(PATHS))
histories = st.lists(st.tuples(st.lists(changes, min_size=1, max_size=6), runs), min_size=2, max_size=8)


@contextmanager
def unlistable(folder: Path) -> Iterator[None]:
    """Make a folder unreadable, for root too."""
    original = os.scandir

    def scandir(path: Any = ".") -> Any:
        if os.fsdecode(path) == str(folder):
            raise PermissionError(13, "Permission denied", str(folder))
        return original(path)

    with mock.patch("os.scandir", scandir):
        yield


@dataclass(frozen=True)
class Place:
    """A server, and the stores that it shares with the syncer."""

    database_url: str
    server: Server
    store: Callable[[str], ObjectStore]
    buckets: Path | None = None
    proxy: FaultyProxy | None = None


@dataclass
class History:
    """One folder, and the operations on it."""

    world: World
    place: Place
    derivatives: bool
    expectation: Expectation = field(default_factory=Expectation)
    backup: dict[str, bytes] = field(default_factory=dict)

    def at(self, path: str) -> Path:
        return self.world.folder / path

    # --- changes ---

    def file(self, which: int) -> str | None:
        there = sorted(self.world.contents())
        return there[which % len(there)] if there else None

    def write(self, path: str, number: int) -> None:
        self.at(path).parent.mkdir(parents=True, exist_ok=True)
        self.at(path).write_bytes(CONTENTS[number])

    async def add(self, path: str, number: int) -> None:
        if not self.at(path).exists():
            self.write(path, number)

    async def edit(self, which: int, number: int) -> None:
        if path := self.file(which):
            self.write(path, number)

    async def edit_in_secret(self, which: int, number: int) -> None:
        if path := self.file(which):
            before = self.at(path).stat()
            self.write(path, number)
            os.utime(self.at(path), ns=(before.st_atime_ns, before.st_mtime_ns))

    async def rename(self, which: int, new: str) -> None:
        if old := self.file(which):
            self.at(new).parent.mkdir(parents=True, exist_ok=True)
            self.at(old).rename(self.at(new))

    async def swap(self, one: int, other: int) -> None:
        a, b = self.file(one), self.file(other)
        if a and b and a != b:
            self.at(a).rename(self.at("aside"))
            self.at(b).rename(self.at(a))
            self.at("aside").rename(self.at(b))

    async def rotate(self) -> None:
        for one in range(len(self.world.contents()) - 1):
            await self.swap(one, one + 1)

    async def copy(self, which: int, new: str) -> None:
        old = self.file(which)
        if old and old != new:
            self.at(new).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(self.at(old), self.at(new))

    async def touch(self, which: int) -> None:
        if path := self.file(which):
            os.utime(self.at(path))

    async def delete(self, which: int) -> None:
        if path := self.file(which):
            self.at(path).unlink()

    async def change_case(self, which: int) -> None:
        if path := self.file(which):
            head, _, name = path.rpartition("/")
            await self.rename(which, f"{head}/{name.swapcase()}".lstrip("/").replace(".BMP", ".bmp"))

    async def rename_folder(self, old: str, new: str) -> None:
        if self.at(old).is_dir() and not self.at(new).exists() and not new.startswith(f"{old}/"):
            self.at(new).parent.mkdir(parents=True, exist_ok=True)
            self.at(old).rename(self.at(new))

    async def restore(self) -> None:
        """Restore the files of the last clean run."""
        for path, content in self.backup.items():
            if not self.at(path).is_dir() and not any(parent.is_file() for parent in self.at(path).parents):
                self.at(path).parent.mkdir(parents=True, exist_ok=True)
                self.at(path).write_bytes(content)

    async def delete_by_api(self, which: int) -> None:
        if key := await self._delete(which):
            own = self.expectation.own(await self.world.rows()).values()
            alone = sha256(key[1]) not in {row.sha256 for row in own}
            self.expectation.delete(*key, alone=alone)

    async def add_by_api(self, what: tuple[str, int]) -> None:
        key, number = what
        rows = await self.world.rows()
        answer = await self._ask("post", "/api/images", key=key, content=CONTENTS[number])
        known = sha256(CONTENTS[number]) in {row.sha256 for row in rows.values()}
        # An object that a killed run has left under the key may block it for an hour.
        assert answer in ({200} if known else {409} if key in rows else {201, 409})
        if answer == 201:
            self.expectation.add(key, CONTENTS[number], as_image=True)

    async def put_into_the_bucket(self, key: str, number: int) -> None:
        """Put an object of others under a key that we do not use."""
        if key not in await self.world.objects() and key not in await self._doubtful():
            content = CONTENTS[number]
            store = self.world.store
            await store.put(key, content, content_type="image/bmp", cache_control="", sha256=sha256(content).hex())
            self.expectation.add(key, content, as_image=False)

    async def _delete(self, which: int) -> tuple[str, bytes] | None:
        """Delete an image through the API; return its key and content, or None if there was none."""
        rows = await self.world.rows()
        if not rows:
            return None
        key = sorted(rows)[which % len(rows)]
        answer = await self._ask("delete", f"/api/images/{rows[key].id}")
        assert answer in {204, 404}
        return (key, self._content(rows[key].sha256)) if answer == 204 else None

    async def _ask(self, method: str, route: str, content: bytes | None = None, **parameters: str) -> int:
        answer = await asyncio.to_thread(
            self.place.server.http.request,
            method,
            route,
            params={"bucket": self.world.collection.bucket, **parameters},
            content=content,
            headers=BEARER,
        )
        return int(answer.status_code)

    @staticmethod
    def _content(digest: bytes) -> bytes:
        return next(content for content in CONTENTS if sha256(content) == digest)

    # --- runs ---

    async def clean(self) -> None:
        """Sync undisturbed; check that everything agrees and that nothing was done without need."""
        world, expectation = self.world, self.expectation
        contents = self.backup = world.contents()
        before = await world.rows()
        expectation.check_any_run(contents, before)
        deleted = set(expectation.hidden.values())
        # Images whose files have other content now, and those in doubt, may be uploaded and paid for again.
        doubtful = await self._doubtful()
        trusted = {
            key: row
            for key, row in before.items()
            if key not in doubtful and (key not in contents or sha256(contents[key]) == row.sha256)
        }
        world.store.clear()
        world.paid.clear()
        counts = await world.sync(deletion=DELETE_ANY, derivatives=self.derivatives)
        rows = await world.rows()
        if not contents:
            assert rows.keys() == before.keys()
            return
        assert world.withheld == ""
        assert counts["failed"] in expectation.refused(contents)
        await world.check(expectation.check_clean_run(contents, rows), foreign=expectation.foreign)
        await self._check_derivatives()
        own_after = Counter(row.sha256 for row in expectation.own(rows).values())
        own_before = Counter(row.sha256 for row in expectation.own(before).values())
        new = (own_after - own_before).keys()
        assert not new & {sha256(each) for each in deleted}, "a deleted image has come back"
        known = {row.sha256 for row in trusted.values() if row.vector is not None}
        assert all(times == 1 and paid not in known for paid, times in world.paid.items())
        trusted = expectation.own(trusted)
        there = Counter(row.sha256 for row in trusted.values())
        needed = Counter(sha256(each) for each in expectation.shown.values())
        uploads = Counter(sha256(contents[key]) for key in world.store.uploads())
        assert uploads <= needed - there
        ids = {row.id: row.sha256 for row in expectation.own(before).values()}
        kept = Counter(row.sha256 for row in expectation.own(rows).values() if ids.get(row.id) == row.sha256)
        assert needed & there <= kept, "an image whose file still exists has lost its row"

    clean_again = clean  # makes clean runs twice as likely

    async def killed(self, lives: list[int], deletion: Any) -> None:
        for steps in lives:
            await self._live(Life(steps), deletion)
            self.expectation.check_any_run(self.world.contents(), await self.world.rows())

    async def disturbed(self, after: int, which: int, then_killed_in: int | None, deletion: Any) -> None:
        """Delete an image during the run, which may be killed after that."""
        deleted = None

        async def delete() -> None:
            nonlocal deleted
            own = self.expectation.own(await self.world.rows()).values()
            deleted = await self._delete(which)
            life.ends_in = then_killed_in
            if deleted:
                # Other files with this content may have been uploaded before.
                alone = [row.sha256 for row in own].count(sha256(deleted[1])) == 1
                alone &= list(self.world.contents().values()).count(deleted[1]) <= 1
                self.expectation.delete(*deleted, alone=alone)

        life = Life(disturbed_in=after, meanwhile=delete)
        await self._live(life, deletion)
        await life.finish()
        event("disturbed" if deleted else "not disturbed")
        self.expectation.check_any_run(self.world.contents(), await self.world.rows())

    async def _live(self, life: Life, deletion: Any) -> None:
        world = self.world
        store = self.place.store(world.collection.bucket)
        await store.prepare()
        sync = world.folder_sync(deletion=deletion, derivatives=self.derivatives)
        database: Any = MortalDatabase(world.database, life)
        mortal_store: Any = MortalStore(store, life)
        sync.target = replace(sync.target, database=database, store=mortal_store)
        with mortal_disk(self.place.buckets, life) if self.place.buckets else nullcontext():
            try:
                await sync.run()
                event("ran to its end")
            except BaseException as exc:
                if not _only(exc, Killed):
                    raise
                event("was killed")
            finally:
                await store.close()  # its threads would have ended with the process

        # A killed process would leave a free lock file (tests/e2e/test_folders.py); its claims would expire.
        await world.execute("DELETE FROM source_locks")
        await world.execute(f"UPDATE {world.collection.base}_pending SET claimed_until = now()")

    async def with_faults(self, seed: int, deletion: Any) -> None:
        if self.place.proxy is None:
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

        self.place.proxy.rule = rule
        sync = self.world.folder_sync(deletion=deletion, derivatives=self.derivatives, retry_timeout=0)
        try:
            await sync.run()
            event("outlived faults")
        except BaseException as exc:
            if not _only(exc, ServiceError):
                raise
            event("was ended by faults")
        finally:
            self.place.proxy.rule = lambda request: None
        self.expectation.check_any_run(self.world.contents(), await self.world.rows())

    async def with_a_folder_that_cannot_be_listed(self, folder: str, deletion: Any) -> None:
        before = await self.world.rows()
        with unlistable(self.at(folder)):
            counts = await self._sync(deletion=deletion)
        if self.at(folder).is_dir():
            assert counts["failed"] >= 1
            assert counts["deleted"] == 0
            # They may have moved to another name.
            unseen = {(row.id, row.sha256) for key, row in before.items() if key.startswith(f"{folder}/")}
            assert unseen <= {(row.id, row.sha256) for row in (await self.world.rows()).values()}

    async def with_its_disk_unmounted(self, deletion: Any) -> None:
        before = await self.world.rows()
        folder = self.world.folder
        aside = folder.rename(folder.with_name(f"{folder.name} elsewhere"))
        folder.mkdir()
        await self.world.sync(deletion=deletion, derivatives=self.derivatives)
        folder.rmdir()
        aside.rename(folder)
        assert {(key, row.id) for key, row in (await self.world.rows()).items()} == {
            (key, row.id) for key, row in before.items()
        }

    async def of_a_part(self, path: str, deletion: Any) -> None:
        await self._sync([path], deletion=deletion)

    async def without_delete(self) -> None:
        await self._sync()

    async def _sync(self, paths: list[str] | None = None, **more: Any) -> Counter[str]:
        counts = await self.world.sync(paths, derivatives=self.derivatives, **more)
        self.expectation.check_any_run(self.world.contents(), await self.world.rows())
        return counts

    async def _doubtful(self) -> set[str]:
        """Return the keys that an interrupted run may have overwritten or deleted."""
        base = self.world.collection.base
        rows = await self.world.execute(
            f"SELECT key FROM {base}_pending UNION"
            f" SELECT path FROM {base}_files WHERE image_id IS NOT NULL AND sha256 IS NULL"
        )
        return {key for (key,) in rows}

    async def _check_derivatives(self) -> None:
        """Check that the bucket has the thumbnails and previews of the images, and no others."""
        images = f"{self.world.collection.base}_images"
        contents = await self.world.execute(f"SELECT sha256 FROM {images} WHERE derivatives")
        expected = {key for (content,) in contents for key in (thumbnail_key(content), preview_key(content))}
        assert {stored.key async for stored in self.world.store.list(RESERVED_PREFIX)} == expected

    async def play(self, contents: list[int], steps: list[Any]) -> None:
        for path, number in zip(PATHS, contents, strict=True):
            if number:
                self.write(path, number)
        await self.clean()
        for changes, (run, arguments) in [*steps, ([("add", ("b.bmp", 0))], ("clean", ()))]:
            for change, operands in changes:
                await getattr(self, change)(*operands)
            await getattr(self, run)(*arguments)
        await self.clean()


def _only(exc: BaseException, kind: type[BaseException]) -> bool:
    if isinstance(exc, BaseExceptionGroup):
        # If one task is killed, the others are cancelled.
        return all(_only(each, kind) for each in exc.exceptions)
    return isinstance(exc, (kind, asyncio.CancelledError))


@asynccontextmanager
async def world_in(place: Place, folder: Path) -> AsyncIterator[World]:
    async with AsyncExitStack() as stack:
        database = Database(place.database_url, max_connections=6, retry_timeout=5)
        await database.open()
        stack.push_async_callback(database.close)
        world = await World.make(stack, folder, database, place.store(f"b{uuid4().hex[:12]}"))
        yield world
        await database.run(lambda conn: collections.drop(conn, world.collection))


def play(place: Place, folder: Path, history: Any) -> None:
    note(repr(history))
    derivatives, contents, steps = history

    async def run() -> None:
        async with world_in(place, folder) as world:
            await History(world, place, derivatives).play(contents, steps)

    try:
        asyncio.run(run())
    finally:
        shutil.rmtree(folder, ignore_errors=True)


SETTINGS = settings(
    max_examples=HISTORIES,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow, HealthCheck.data_too_large],
    print_blob=True,
    # A history takes seconds, and shrinking plays hundreds of them.
    phases=tuple(Phase) if HISTORIES > 100 else (Phase.explicit, Phase.reuse, Phase.generate),
)
any_history = given(history=st.tuples(st.booleans(), beginnings, histories))


@pytest.fixture
def environment(tmp_path: Path, shared_folder: Path, database_url: str) -> dict[str, str]:
    token = {"API_TOKEN": BEARER["Authorization"].removeprefix("Bearer ")}
    return make_environment(make_home(tmp_path / "home", shared_folder), database_url) | token


@pytest.fixture
def folders(environment: dict[str, str], tmp_path: Path) -> Iterator[Place]:
    buckets = Path(environment["IMAGE_BROWSER_HOME"], "buckets")
    with serving(environment, tmp_path / "server.log") as server:
        yield Place(environment["DATABASE_URL"], server, lambda bucket: FolderStore(buckets, bucket), buckets)


@pytest.fixture
def s3(environment: dict[str, str], tmp_path: Path) -> Iterator[Place]:
    with S3Server() as moto, FaultyProxy(moto.url) as proxy:

        def store(bucket: str) -> ObjectStore:
            moto.make_bucket(bucket)
            return s3_store(proxy.url, bucket, retry_timeout=0.3, timeout=2.0, concurrency=8)

        with serving(environment | s3_environment(proxy.url), tmp_path / "server.log") as server:
            yield Place(environment["DATABASE_URL"], server, store, proxy=proxy)


@pytest.mark.timeout(max(300, 30 * HISTORIES))
@SETTINGS
@any_history
def test_a_folder_store_agrees_with_the_folder_after_any_history(folders: Place, tmp_path: Path, history: Any) -> None:
    play(folders, tmp_path / uuid4().hex, history)


@pytest.mark.timeout(max(300, 30 * HISTORIES))
@SETTINGS
@any_history
def test_s3_agrees_with_the_folder_after_any_history(s3: Place, tmp_path: Path, history: Any) -> None:
    assert s3.proxy is not None
    s3.proxy.clear()
    play(s3, tmp_path / uuid4().hex, history)
