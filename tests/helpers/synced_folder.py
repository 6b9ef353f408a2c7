"""A folder with its bucket and its table, synced inside the test's own process."""

import asyncio
import hashlib
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import MappingProxyType
from typing import Any, LiteralString, Self
from uuid import uuid4

from shared.db.pool import Connection, Database
from shared.images import EXTENSIONS
from shared.models import Collection
from shared.retry import outage_policy
from shared.sql import collections, queue
from shared.stores.base import RESERVED_PREFIX, ObjectStore
from syncer.deletion_policy import DeletionPolicy
from syncer.dry_run import Step
from syncer.folder.ignore import Selection
from syncer.folder.options import FolderOptions
from syncer.folder.planner import Planner
from syncer.folder.sync import FolderSync
from syncer.progress import Progress
from syncer.source import find_source
from syncer.target import SyncTarget
from tests.helpers.pictures import picture

MODEL = "model"
DELETE = DeletionPolicy(requested=True)
DELETE_ANY = DeletionPolicy(requested=True, confirmed=True)


def bitmap(number: int) -> bytes:
    """Return a small BMP, different for each number and of the same size for all."""
    return picture(number, (4, 4), "BMP")


def sha256(content: bytes) -> bytes:
    return hashlib.sha256(content).digest()


@dataclass(frozen=True)
class Row:
    """One image with its vector."""

    id: int
    sha256: bytes
    vector: str | None


class Here:
    """A decoder without worker processes."""

    async def run(self, function: Callable[..., Any], *arguments: Any, **more: Any) -> Any:
        return await asyncio.to_thread(function, *arguments, **more)


class Counted:
    """A store that counts its requests."""

    def __init__(self, store: ObjectStore) -> None:
        self._store = store
        self.puts: Counter[str] = Counter()
        self.copies: list[tuple[str, str]] = []
        self.deleted: list[str] = []

    def __getattr__(self, name: str) -> Any:
        return getattr(self._store, name)

    async def put(self, key: str, body: bytes | Path, **more: Any) -> None:
        await self._store.put(key, body, **more)
        self.puts[key] += 1

    async def copy(self, source: str, target: str) -> None:
        await self._store.copy(source, target)
        self.copies.append((source, target))

    async def delete(self, keys: Sequence[str]) -> None:
        await self._store.delete(keys)
        self.deleted += keys

    def uploads(self) -> list[str]:
        return sorted(key for key in self.puts.elements() if not key.startswith(RESERVED_PREFIX))

    def clear(self) -> None:
        self.puts.clear()
        self.copies.clear()
        self.deleted.clear()


@dataclass
class World:
    """A folder that is synced to a bucket; ``paid`` counts computed vectors by content."""

    folder: Path
    database: Database
    store: Counted
    collection: Collection
    paid: Counter[bytes] = field(default_factory=Counter)

    @classmethod
    async def make(cls, stack: AsyncExitStack, folder: Path, database: Database, store: ObjectStore) -> Self:
        async def ensure(conn: Connection) -> Collection:
            return await collections.ensure(conn, store.bucket, model=MODEL, dimensions=3, now=datetime.now(UTC))

        folder.mkdir(exist_ok=True)
        await store.prepare()
        stack.push_async_callback(store.close)
        return cls(folder, database, Counted(store), await database.run(ensure))

    def write(self, path: str, number: int) -> Path:
        file = self.folder / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(bitmap(number))
        return file

    def folder_sync(self, *, retry_timeout: float = 20, **options: Any) -> FolderSync:
        self.progress = Progress(quiet=True)
        return FolderSync(self.options(**options), self.target(self.progress, retry_timeout=retry_timeout))

    def target(self, progress: Progress, *, store: ObjectStore | None = None, retry_timeout: float = 20) -> SyncTarget:
        retry = outage_policy(retry_timeout, lambda reason: None)
        decoder: Any = Here()
        return SyncTarget(self.collection, store or self.store, self.database, decoder, retry, progress)

    def options(
        self,
        *,
        folder: Path | None = None,
        source: str = "folder",
        exclude: Sequence[str] = (),
        follow_links: bool = False,
        **more: Any,
    ) -> FolderOptions:
        folder = folder or self.folder
        selection = Selection(folder, EXTENSIONS, exclude=exclude, follow_links=follow_links)
        return FolderOptions(folder, source, selection, concurrency=4, **{"derivatives": False, **more})

    async def sync(self, paths: list[str] | None = None, **more: Any) -> Counter[str]:
        """Run both phases; return the counts of the first. ``withheld`` is that of the sync."""
        sync = self.folder_sync(**more)
        assert await sync.run(paths)
        self.withheld = sync.withheld
        await self.embed()
        return +self.progress.counts

    async def dry_run(self, **options: Any) -> list[Step]:
        """Return the steps of a dry run, without unchanged files."""
        complete = self.options(**options)
        plan = Planner(complete, await find_source(self.database, self.collection.bucket, complete.source))
        steps = [step async for step in plan.steps()]
        self.withheld = plan.withheld
        return [step for step in steps if step.kind != "unchanged"]

    async def embed(self) -> None:
        """Store a vector for each pending image, and count it as paid."""

        async def some(conn: Connection) -> int:
            claimed = await queue.claim(conn, self.collection, lease=uuid4(), limit=100, duration=timedelta(seconds=-1))
            for job in claimed:
                vector = [value / 16 for value in job.sha256[:3]]
                if await queue.complete(conn, self.collection, job, vector):
                    self.paid[job.sha256] += 1
            return len(claimed)

        while await self.database.run(some):
            pass

    async def rows(self) -> dict[str, Row]:
        """Return the table's images by key."""
        base = self.collection.base
        rows = await self.execute(
            f"SELECT i.r2_key, i.id, i.sha256, e.embedding::text FROM {base}_images i JOIN {base}_embeddings e"
            " ON (i.id, i.r2_key) = (e.id, e.r2_key)"
        )
        return {key: Row(*rest) for key, *rest in rows}

    async def execute(self, statement: LiteralString) -> list[tuple[Any, ...]]:
        """Run a statement; return its rows, if it has any."""

        async def run(conn: Connection) -> list[tuple[Any, ...]]:
            cur = await conn.execute(statement)
            return await cur.fetchall() if cur.description else []

        return await self.database.run(run)

    async def objects(self) -> dict[str, bytes]:
        """Return the bucket's objects by key, without derivatives."""
        keys = [stored.key async for stored in self.store.list() if not stored.key.startswith(RESERVED_PREFIX)]
        return {key: await self.store.get(key) for key in keys}

    async def check(self, expected: dict[str, bytes], *, foreign: Mapping[str, bytes] = MappingProxyType({})) -> None:
        """Assert that table and bucket hold these contents with their vectors, and that no object is pending.

        *foreign* are objects of others in the bucket.
        """
        rows = await self.rows()
        assert {key: row.sha256 for key, row in rows.items()} == {k: sha256(c) for k, c in expected.items()}
        for row in rows.values():
            assert row.vector is not None
            vector = [float(value) for value in row.vector.strip("[]").split(",")]
            assert vector == [value / 16 for value in row.sha256[:3]]
        assert await self.objects() == expected | foreign
        assert await self.execute(f"SELECT * FROM {self.collection.base}_pending") == []

    def contents(self) -> dict[str, bytes]:
        """Return the contents of the folder's files by path."""
        return {
            path.relative_to(self.folder).as_posix(): path.read_bytes()
            for path in self.folder.rglob("*.bmp")
            if path.is_file()
        }
