"""Images that are added concurrently share transactions, and none suffers from the fault of another."""

import asyncio
import hashlib
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest_asyncio

from shared.db.pool import Connection, Database
from shared.errors import ImageRefused, Reason
from shared.ingest import DeletedMeanwhile, Ingester
from shared.models import Collection, NewImage
from shared.sql import collections, files, images, pending_objects
from shared.stores.folder import FolderStore

NOW = datetime(2026, 11, 21, tzinfo=UTC)


class Bucket:
    def __init__(self, database: Database, store: FolderStore, collection: Collection, source: int) -> None:
        self.database, self.collection, self.source = database, collection, source
        self.ingester = Ingester(database, store, collection)

    async def add(self, number: int, content: bytes = b"", **more: Any) -> int:
        body = content or str(number).encode()
        digest = hashlib.sha256(body).digest()
        image = NewImage(f"{number}.jpg", digest, len(body), "image/jpeg", 1, 1, "folder", keywords=("é\\", '"'))
        options = {"source": self.source, "stat": (1, number, 1)} | more
        return await self.ingester.add(image, body, thumbnail=None, preview=None, **options)

    async def set_vectors(self) -> None:
        """Give each image a vector and empty the queue."""
        base = self.collection.base
        await self.database.run(lambda conn: conn.execute(f"UPDATE {base}_embeddings SET embedding = '[1, 2, 3]'"))
        await self.database.run(lambda conn: conn.execute(f"DELETE FROM {base}_queue"))

    async def rows(self, table: str) -> list[Any]:
        cur = await self.database.run(lambda conn: conn.execute(f"SELECT * FROM {self.collection.base}_{table}"))
        return await cur.fetchall()


@pytest_asyncio.fixture
async def bucket(database: Database, tmp_path: Path) -> AsyncIterator[Bucket]:
    store = FolderStore(tmp_path, "b")
    await store.prepare()
    collection = await database.run(collections.ensure, "b", model="m", dimensions=3, now=NOW)
    source = await database.run(collections.ensure_source, collection, "folder")
    yield Bucket(database, store, collection, source)
    await store.close()


async def test_concurrent_images_become_rows_with_their_files(bucket: Bucket) -> None:
    ids = await asyncio.gather(*(bucket.add(number) for number in range(12)))
    found = await bucket.database.run(images.get_many, bucket.collection, ids)
    assert [image.key for image in found] == [f"{number}.jpg" for number in range(12)]
    details = await bucket.database.run(images.details, bucket.collection, ids[0])
    assert details
    assert details["keywords"] == ["é\\", '"']
    known = await bucket.database.run(files.list_known, bucket.collection, bucket.source, after="", limit=99)
    assert {file.path: (file.image_id, file.mtime_ns) for file in known} == {
        f"{number}.jpg": (ids[number], number) for number in range(12)
    }
    assert await bucket.rows("pending") == []
    assert len(await bucket.rows("queue")) == 12


async def test_a_fault_of_one_image_does_not_reach_the_others(bucket: Bucket) -> None:
    async def fail(conn: Connection, image_id: int) -> None:
        raise ImageRefused(Reason.UNREADABLE, "refused in the transaction")

    outcomes = await asyncio.gather(
        *(bucket.add(number, before_commit=fail if number == 5 else None) for number in range(12)),
        return_exceptions=True,
    )
    assert isinstance(outcomes.pop(5), ImageRefused)
    assert all(isinstance(outcome, int) for outcome in outcomes)
    assert len(await bucket.rows("images")) == len(await bucket.rows("files")) == 11
    assert {row[0] for row in await bucket.rows("pending")} <= {"5.jpg"}


async def test_content_deleted_meanwhile_is_left_out_of_its_batch(bucket: Bucket) -> None:
    await bucket.add(0, b"deleted")
    await bucket.database.run(pending_objects.delete_images, bucket.collection, [1], tombstone=True)
    outcomes = await asyncio.gather(bucket.add(1), bucket.add(2, b"deleted"), bucket.add(3), return_exceptions=True)
    assert [type(outcome) for outcome in outcomes] == [int, DeletedMeanwhile, int]
    assert len(await bucket.rows("images")) == 2


async def test_edited_images_of_one_batch_do_not_take_each_others_old_vectors(bucket: Bucket) -> None:
    await asyncio.gather(*(bucket.add(number) for number in range(3)))
    await bucket.set_vectors()
    edits = [bucket.add(number, b"the same", replaces=True) for number in range(3)]
    await asyncio.gather(*edits)
    assert len(await bucket.rows("queue")) == 3


async def test_an_image_takes_the_vector_of_equal_content(bucket: Bucket) -> None:
    await bucket.add(0, b"the same")
    await bucket.set_vectors()
    _, other = await asyncio.gather(bucket.add(1, b"the same"), bucket.add(2, b"another"))
    assert [row[0] for row in await bucket.rows("queue")] == [other]
