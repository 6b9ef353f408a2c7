"""Images are stored and deleted so that rows and objects agree, wherever a process is killed."""

import asyncio
import hashlib
from collections.abc import AsyncIterator, Awaitable, Callable
from datetime import UTC, datetime
from functools import partial
from pathlib import Path

import pytest
import pytest_asyncio

from shared.db.pool import Connection, Database
from shared.errors import ImageRefused, Reason, StoreError
from shared.ingest import ingest
from shared.models import Collection, NewImage
from shared.object_deletion import delete_images, delete_pending_objects
from shared.object_keys import preview_key, thumbnail_key
from shared.sql import collections, files, images, pending_objects
from shared.sql.pending_objects import UploadIntent
from shared.stores.folder import FolderStore

NOW = datetime(2026, 11, 21, tzinfo=UTC)

Put = Callable[[str, bytes], Awaitable[int]]


@pytest_asyncio.fixture
async def collection(database: Database) -> Collection:
    return await database.run(collections.ensure, "b", model="m", dimensions=3, now=NOW)


@pytest_asyncio.fixture
async def store(tmp_path: Path) -> AsyncIterator[FolderStore]:
    store = FolderStore(tmp_path, "b")
    await store.prepare()
    yield store
    await store.close()


def image(key: str, content: bytes) -> NewImage:
    return NewImage(
        key=key,
        sha256=hashlib.sha256(content).digest(),
        size=len(content),
        content_type="image/jpeg",
        width=1,
        height=1,
        origin="folder",
        derivatives=True,
    )


@pytest.fixture
def put(database: Database, store: FolderStore, collection: Collection) -> Put:
    """Store an image with derivatives under a key."""

    async def put(key: str, content: bytes) -> int:
        return await ingest(
            database, store, collection, image(key, content), content, thumbnail=b"thumbnail", preview=b"preview"
        )

    return put


async def put_object(store: FolderStore, key: str, content: bytes) -> None:
    digest = hashlib.sha256(content).hexdigest()
    await store.put(key, content, content_type="image/jpeg", cache_control="", sha256=digest)


async def objects(store: FolderStore) -> set[str]:
    return {stored.key async for stored in store.list()}


def with_derivatives(key: str, content: bytes) -> set[str]:
    digest = hashlib.sha256(content).digest()
    return {key, thumbnail_key(digest), preview_key(digest)}


async def pending(database: Database, collection: Collection) -> int:
    async def count(conn: Connection) -> int:
        return (await conn.execute(f"SELECT FROM {collection.base}_pending")).rowcount

    return await database.run(count)


async def interrupt_upload(database: Database, collection: Collection, key: str, content: bytes) -> None:
    """Leave what an upload leaves in the database that is killed after it has recorded its intent."""
    intent = UploadIntent(key, image(key, content).sha256, derivatives=True)
    await database.run(pending_objects.record_intent, collection, intent, source=None, replaces=False)
    await database.run(pending_objects.abandon_uploads, collection, source=None)


async def test_an_image_is_deleted_with_its_objects(
    database: Database, store: FolderStore, collection: Collection, put: Put
) -> None:
    a, b = await put("a.jpg", b"a"), await put("b.jpg", b"b")
    assert await pending(database, collection) == 0
    assert await delete_images(database, store, collection, [a, 99], tombstone=True) == 1
    assert await objects(store) == with_derivatives("b.jpg", b"b")
    assert await pending(database, collection) == 0
    assert await delete_images(database, store, collection, [a, b], tombstone=True) == 1
    assert await objects(store) == set()


async def test_derivatives_stay_while_an_image_has_their_content(
    database: Database, store: FolderStore, collection: Collection, put: Put
) -> None:
    first, second = await put("first.jpg", b"same"), await put("second.jpg", b"same")
    await delete_images(database, store, collection, [first], tombstone=True)
    assert await objects(store) == with_derivatives("second.jpg", b"same")
    await delete_images(database, store, collection, [second], tombstone=True)
    assert await objects(store) == set()


async def test_the_derivatives_of_replaced_content_are_deleted(
    database: Database, store: FolderStore, collection: Collection, put: Put
) -> None:
    await put("a.jpg", b"old")
    await ingest(
        database, store, collection, image("a.jpg", b"new"), b"new", thumbnail=b"t", preview=b"p", replaces=True
    )
    await delete_pending_objects(database, store, collection)
    assert await objects(store) == with_derivatives("a.jpg", b"new")
    assert await store.get("a.jpg") == b"new"


async def test_an_object_of_others_is_neither_overwritten_nor_deleted(
    database: Database, store: FolderStore, collection: Collection, put: Put
) -> None:
    await put_object(store, "a.jpg", b"theirs")
    with pytest.raises(ImageRefused) as refused:
        await put("a.jpg", b"ours")
    assert refused.value.reason is Reason.KEY_TAKEN
    await delete_pending_objects(database, store, collection)
    assert await objects(store) == {"a.jpg"}
    assert await store.get("a.jpg") == b"theirs"
    assert await pending(database, collection) == 0


async def test_nothing_is_deleted_while_an_upload_is_under_way(
    database: Database, store: FolderStore, collection: Collection
) -> None:
    intent = UploadIntent("a.jpg", image("a.jpg", b"a").sha256, derivatives=True)
    await database.run(pending_objects.record_intent, collection, intent, source=None, replaces=False)
    await put_object(store, "a.jpg", b"a")
    assert await delete_pending_objects(database, store, collection) == 0
    assert await objects(store) == {"a.jpg"}


@pytest.mark.parametrize("described", [True, False])
@pytest.mark.parametrize(("content", "left"), [(b"ours", set()), (b"theirs", {"a.jpg"})])
async def test_an_interrupted_upload_is_cleaned_up_if_the_object_is_ours(
    database: Database,
    store: FolderStore,
    collection: Collection,
    tmp_path: Path,
    content: bytes,
    left: set[str],
    described: bool,
) -> None:
    """Also if it was killed before the folder store had described the object."""
    await interrupt_upload(database, collection, "a.jpg", b"ours")
    if described:
        await put_object(store, "a.jpg", content)
    else:
        (tmp_path / "b" / "a.jpg").write_bytes(content)
    await delete_pending_objects(database, store, collection)
    assert await objects(store) == left
    assert await pending(database, collection) == 0


async def test_an_edited_file_replaces_what_an_interrupted_upload_left_under_its_key(
    database: Database, store: FolderStore, collection: Collection, put: Put
) -> None:
    await interrupt_upload(database, collection, "a.jpg", b"left")
    await put_object(store, "a.jpg", b"left")
    await put("a.jpg", b"edited")
    await delete_pending_objects(database, store, collection)
    assert await store.get("a.jpg") == b"edited"
    assert await objects(store) == with_derivatives("a.jpg", b"edited")


async def test_objects_that_could_not_be_deleted_are_deleted_later_unless_uploaded_again(
    database: Database, store: FolderStore, collection: Collection, put: Put, monkeypatch: pytest.MonkeyPatch
) -> None:
    a, b = await put("a.jpg", b"a"), await put("b.jpg", b"b")

    async def fail(keys: object) -> None:
        raise StoreError("the store is unavailable", transient=True)

    with monkeypatch.context() as patched:
        patched.setattr(store, "delete", fail)
        assert await delete_images(database, store, collection, [a, b], tombstone=True) == 2
    await put("b.jpg", b"new")
    await delete_pending_objects(database, store, collection)
    assert await objects(store) == with_derivatives("b.jpg", b"new")


async def test_an_upload_waits_while_its_key_is_being_deleted(
    database: Database, store: FolderStore, collection: Collection, put: Put, monkeypatch: pytest.MonkeyPatch
) -> None:
    a = await put("a.jpg", b"old")
    original, uploads = store.delete, []

    async def delete_slowly(keys: list[str]) -> None:
        uploads.append(asyncio.create_task(put("a.jpg", b"new")))  # type: ignore[arg-type]
        await asyncio.wait(uploads, timeout=0.3)
        assert not uploads[0].done()
        await original(keys)

    monkeypatch.setattr(store, "delete", delete_slowly)
    await delete_images(database, store, collection, [a], tombstone=False)
    await uploads[0]
    assert await objects(store) == with_derivatives("a.jpg", b"new")


async def test_a_claim_expires_after_its_process_was_killed(
    database: Database, store: FolderStore, collection: Collection, put: Put, monkeypatch: pytest.MonkeyPatch
) -> None:
    a = await put("a.jpg", b"a")

    async def killed(keys: object) -> None:
        raise asyncio.CancelledError

    with monkeypatch.context() as patched:
        patched.setattr(store, "delete", killed)
        with pytest.raises(asyncio.CancelledError):
            await delete_images(database, store, collection, [a], tombstone=False)
    assert await delete_pending_objects(database, store, collection) == 0, "the claim is still valid"
    await database.run(lambda conn: conn.execute(f"UPDATE {collection.base}_pending SET claimed_until = now()"))
    assert await delete_pending_objects(database, store, collection) == 3
    assert await objects(store) == set()


async def test_an_upload_that_missed_its_deadline_stores_its_image_again(
    database: Database, store: FolderStore, collection: Collection, put: Put, monkeypatch: pytest.MonkeyPatch
) -> None:
    original, puts = store.put, []

    async def slow(key: str, *arguments: object, **more: object) -> None:
        await original(key, *arguments, **more)  # type: ignore[arg-type]
        puts.append(key)
        if puts.count("a.jpg") == 1 and key == "a.jpg":
            await database.run(pending_objects.abandon_uploads, collection, source=None)
            assert await delete_pending_objects(database, store, collection) == 3

    monkeypatch.setattr(store, "put", slow)
    await put("a.jpg", b"a")
    assert puts.count("a.jpg") == 2
    assert await objects(store) == with_derivatives("a.jpg", b"a")


@pytest.mark.parametrize("tombstone", [True, False])
async def test_a_deleted_image_leaves_a_tombstone_or_its_files_are_forgotten(
    database: Database, store: FolderStore, collection: Collection, put: Put, tombstone: bool
) -> None:
    a, digest = await put("a.jpg", b"a"), hashlib.sha256(b"a").digest()
    source = await database.run(collections.ensure_source, collection, "folder")
    record = partial(files.record, stat=(1, 1, 1), sha256=digest, image_id=a, now=NOW)
    await database.run(record, collection, source, "a.jpg")
    await delete_images(database, store, collection, [a], tombstone=tombstone)
    rows = await database.run(files.list_known, collection, source, after="", limit=9)
    assert [(row.path, row.removed, row.sha256, row.image_id) for row in rows] == (
        [("a.jpg", True, digest, None)] if tombstone else []
    )
    assert await database.run(files.tombstones, source, [digest]) == ({digest} if tombstone else set())
    assert await database.run(images.get, collection, a) is None


async def test_an_interrupted_overwrite_clears_the_hash_of_the_file(
    database: Database, store: FolderStore, collection: Collection, put: Put
) -> None:
    a, digest = await put("a.jpg", b"a"), hashlib.sha256(b"a").digest()
    source = await database.run(collections.ensure_source, collection, "folder")
    record = partial(files.record, stat=(1, 1, 1), sha256=digest, image_id=a, now=NOW)
    await database.run(record, collection, source, "a.jpg")
    intent = UploadIntent("a.jpg", hashlib.sha256(b"new").digest(), derivatives=False)
    await database.run(pending_objects.record_intent, collection, intent, source=source, replaces=True)
    [row] = await database.run(files.list_known, collection, source, after="", limit=9)
    assert (row.image_id, row.sha256) == (a, None)
    await database.run(pending_objects.abandon_uploads, collection, source=source)
    await delete_pending_objects(database, store, collection)
    assert await objects(store) == with_derivatives("a.jpg", b"a"), "an image still references the object"
