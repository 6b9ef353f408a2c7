"""Images are stored and deleted so that rows and objects agree, wherever a process is killed."""

import asyncio
import hashlib
from collections.abc import AsyncIterator, Awaitable, Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, TypeVar

import pytest
import pytest_asyncio

from shared.db.pool import Database
from shared.errors import ImageRefused, Reason, StoreError
from shared.ingest import Ingester
from shared.models import Collection, NewImage
from shared.object_deletion import delete_images, delete_pending_objects
from shared.object_keys import preview_key, thumbnail_key
from shared.sql import collections, files, images, pending_objects
from shared.sql.pending_objects import UploadIntent
from shared.stores.folder import FolderStore

NOW = datetime(2026, 11, 21, tzinfo=UTC)

T = TypeVar("T")


def image(key: str, content: bytes) -> NewImage:
    digest = hashlib.sha256(content).digest()
    return NewImage(key, digest, len(content), "image/jpeg", 1, 1, "folder", derivatives=True)


def with_derivatives(key: str, content: bytes) -> set[str]:
    digest = hashlib.sha256(content).digest()
    return {key, thumbnail_key(digest), preview_key(digest)}


class Bucket:
    """A collection with its store."""

    def __init__(self, database: Database, store: FolderStore, collection: Collection) -> None:
        self.database, self.store, self.collection = database, store, collection
        self.ingester = Ingester(database, store, collection)

    async def run(self, work: Callable[..., Awaitable[T]], *args: Any, **kwargs: Any) -> T:
        return await self.database.run(work, self.collection, *args, **kwargs)

    async def put(self, key: str, content: bytes, **more: Any) -> int:
        """Store an image with derivatives."""
        derivatives: dict[str, Any] = {"thumbnail": b"thumbnail", "preview": b"preview"}
        row = image(key, content)
        return await self.ingester.add(row, content, **derivatives, **more)

    async def put_object(self, key: str, content: bytes) -> None:
        digest = hashlib.sha256(content).hexdigest()
        await self.store.put(key, content, content_type="image/jpeg", cache_control="", sha256=digest)

    async def delete(self, ids: list[int], *, tombstone: bool) -> int:
        return await delete_images(self.database, self.store, self.collection, ids, tombstone=tombstone)

    async def clean_up(self) -> int:
        return await delete_pending_objects(self.database, self.store, self.collection)

    async def keys(self) -> set[str]:
        return {stored.key async for stored in self.store.list()}

    async def pending(self) -> int:
        cur = await self.database.run(lambda conn: conn.execute(f"SELECT FROM {self.collection.base}_pending"))
        return cur.rowcount

    async def interrupt_upload(self, key: str, content: bytes) -> None:
        """Leave what an upload leaves in the database that is killed after it has recorded its intent."""
        intent = UploadIntent(key, image(key, content).sha256, derivatives=True)
        await self.run(pending_objects.record_intents, [intent])
        await self.run(pending_objects.abandon_uploads, source=None)


@pytest_asyncio.fixture
async def bucket(database: Database, tmp_path: Path) -> AsyncIterator[Bucket]:
    store = FolderStore(tmp_path, "b")
    await store.prepare()
    yield Bucket(database, store, await database.run(collections.ensure, "b", model="m", dimensions=3, now=NOW))
    await store.close()


async def test_an_image_is_deleted_with_its_objects(bucket: Bucket) -> None:
    a, b = await bucket.put("a.jpg", b"a"), await bucket.put("b.jpg", b"b")
    assert await bucket.pending() == 0
    assert await bucket.delete([a, 99], tombstone=True) == 1
    assert await bucket.keys() == with_derivatives("b.jpg", b"b")
    assert await bucket.pending() == 0
    assert await bucket.delete([a, b], tombstone=True) == 1
    assert await bucket.keys() == set()


async def test_derivatives_stay_while_an_image_has_their_content(bucket: Bucket) -> None:
    first, second = await bucket.put("first.jpg", b"same"), await bucket.put("second.jpg", b"same")
    await bucket.delete([first], tombstone=True)
    assert await bucket.keys() == with_derivatives("second.jpg", b"same")
    await bucket.delete([second], tombstone=True)
    assert await bucket.keys() == set()


async def test_the_derivatives_of_replaced_content_are_deleted(bucket: Bucket) -> None:
    await bucket.put("a.jpg", b"old")
    await bucket.put("a.jpg", b"new", replaces=True)
    await bucket.clean_up()
    assert await bucket.keys() == with_derivatives("a.jpg", b"new")
    assert await bucket.store.get("a.jpg") == b"new"


async def test_an_object_of_others_is_neither_overwritten_nor_deleted(bucket: Bucket) -> None:
    await bucket.put_object("a.jpg", b"theirs")
    with pytest.raises(ImageRefused) as refused:
        await bucket.put("a.jpg", b"ours")
    assert refused.value.reason is Reason.KEY_TAKEN
    await bucket.clean_up()
    assert await bucket.keys() == {"a.jpg"}
    assert await bucket.store.get("a.jpg") == b"theirs"
    assert await bucket.pending() == 0


async def test_nothing_is_deleted_while_an_upload_is_under_way(bucket: Bucket) -> None:
    intent = UploadIntent("a.jpg", image("a.jpg", b"a").sha256, derivatives=True)
    await bucket.run(pending_objects.record_intents, [intent])
    await bucket.put_object("a.jpg", b"a")
    assert await bucket.clean_up() == 0
    assert await bucket.keys() == {"a.jpg"}


@pytest.mark.parametrize("described", [True, False])
@pytest.mark.parametrize(("content", "left"), [(b"ours", set()), (b"theirs", {"a.jpg"})])
async def test_an_interrupted_upload_is_cleaned_up_if_the_object_is_ours(
    bucket: Bucket, tmp_path: Path, content: bytes, left: set[str], described: bool
) -> None:
    """Also if it was killed before the folder store had described the object."""
    await bucket.interrupt_upload("a.jpg", b"ours")
    if described:
        await bucket.put_object("a.jpg", content)
    else:
        (tmp_path / "b" / "a.jpg").write_bytes(content)
    await bucket.clean_up()
    assert await bucket.keys() == left
    assert await bucket.pending() == 0


async def test_an_edited_file_replaces_what_an_interrupted_upload_left_under_its_key(bucket: Bucket) -> None:
    await bucket.interrupt_upload("a.jpg", b"left")
    await bucket.put_object("a.jpg", b"left")
    await bucket.put("a.jpg", b"edited")
    await bucket.clean_up()
    assert await bucket.store.get("a.jpg") == b"edited"
    assert await bucket.keys() == with_derivatives("a.jpg", b"edited")


async def test_objects_that_could_not_be_deleted_are_deleted_later_unless_uploaded_again(
    bucket: Bucket, monkeypatch: pytest.MonkeyPatch
) -> None:
    a, b = await bucket.put("a.jpg", b"a"), await bucket.put("b.jpg", b"b")

    async def fail(keys: object) -> None:
        raise StoreError("the store is unavailable", transient=True)

    with monkeypatch.context() as patched:
        patched.setattr(bucket.store, "delete", fail)
        assert await bucket.delete([a, b], tombstone=True) == 2
    await bucket.put("b.jpg", b"new")
    await bucket.clean_up()
    assert await bucket.keys() == with_derivatives("b.jpg", b"new")


async def test_an_upload_waits_while_its_key_is_being_deleted(bucket: Bucket, monkeypatch: pytest.MonkeyPatch) -> None:
    a = await bucket.put("a.jpg", b"old")
    original, uploads = bucket.store.delete, []

    async def delete_slowly(keys: list[str]) -> None:
        uploads.append(asyncio.create_task(bucket.put("a.jpg", b"new")))
        await asyncio.wait(uploads, timeout=0.3)
        assert not uploads[0].done()
        await original(keys)

    monkeypatch.setattr(bucket.store, "delete", delete_slowly)
    await bucket.delete([a], tombstone=False)
    await uploads[0]
    assert await bucket.keys() == with_derivatives("a.jpg", b"new")


async def test_a_claim_expires_after_its_process_was_killed(bucket: Bucket, monkeypatch: pytest.MonkeyPatch) -> None:
    a = await bucket.put("a.jpg", b"a")

    async def killed(keys: object) -> None:
        raise asyncio.CancelledError

    with monkeypatch.context() as patched:
        patched.setattr(bucket.store, "delete", killed)
        with pytest.raises(asyncio.CancelledError):
            await bucket.delete([a], tombstone=False)
    assert await bucket.clean_up() == 0, "the claim is still valid"
    await bucket.database.run(
        lambda conn: conn.execute(f"UPDATE {bucket.collection.base}_pending SET claimed_until = now()")
    )
    assert await bucket.clean_up() == 3
    assert await bucket.keys() == set()


async def test_an_upload_that_missed_its_deadline_stores_its_image_again(
    bucket: Bucket, monkeypatch: pytest.MonkeyPatch
) -> None:
    original, puts = bucket.store.put, []

    async def slow(key: str, *arguments: object, **more: object) -> None:
        await original(key, *arguments, **more)  # type: ignore[arg-type]
        puts.append(key)
        if puts.count("a.jpg") == 1 and key == "a.jpg":
            await bucket.run(pending_objects.abandon_uploads, source=None)
            assert await bucket.clean_up() == 3

    monkeypatch.setattr(bucket.store, "put", slow)
    await bucket.put("a.jpg", b"a")
    assert puts.count("a.jpg") == 2
    assert await bucket.keys() == with_derivatives("a.jpg", b"a")


@pytest.mark.parametrize("tombstone", [True, False])
async def test_a_deleted_image_leaves_a_tombstone_or_its_files_are_forgotten(bucket: Bucket, tombstone: bool) -> None:
    a, digest = await bucket.put("a.jpg", b"a"), hashlib.sha256(b"a").digest()
    source = await bucket.run(collections.ensure_source, "folder")
    await bucket.run(files.record, source, "a.jpg", stat=(1, 1, 1), sha256=digest, image_id=a)
    await bucket.delete([a], tombstone=tombstone)
    rows = await bucket.run(files.list_known, source, after="", limit=9)
    assert [(row.path, row.removed, row.sha256, row.image_id) for row in rows] == (
        [("a.jpg", True, digest, None)] if tombstone else []
    )
    assert await bucket.database.run(files.tombstones, source, [digest]) == ({digest} if tombstone else set())
    assert await bucket.run(images.get, a) is None


async def test_an_interrupted_overwrite_clears_the_hash_of_the_file(bucket: Bucket) -> None:
    a, digest = await bucket.put("a.jpg", b"a"), hashlib.sha256(b"a").digest()
    source = await bucket.run(collections.ensure_source, "folder")
    await bucket.run(files.record, source, "a.jpg", stat=(1, 1, 1), sha256=digest, image_id=a)
    new = hashlib.sha256(b"new").digest()
    intent = UploadIntent("a.jpg", new, derivatives=False, source=source, replaces=True)
    await bucket.run(pending_objects.record_intents, [intent])
    [row] = await bucket.run(files.list_known, source, after="", limit=9)
    assert (row.image_id, row.sha256) == (a, None)
    await bucket.run(pending_objects.abandon_uploads, source=source)
    await bucket.clean_up()
    assert await bucket.keys() == with_derivatives("a.jpg", b"a"), "an image still references the object"
