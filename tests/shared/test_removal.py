"""Images are put into a bucket and removed from it so that rows and objects agree, wherever a process is killed."""

import hashlib
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from pathlib import Path

import pytest
import pytest_asyncio

from shared.db.pool import Connection, Database
from shared.errors import ImageRefused, Reason, StoreError
from shared.ingest import ingest
from shared.models import Collection, NewImage
from shared.object_deletion import delete_images, delete_pending_objects
from shared.object_keys import preview_key, thumbnail_key
from shared.sql import collections, files, pending_objects
from shared.sql import images as image_rows
from shared.sql.pending_objects import UploadIntent
from shared.stores.folder import FolderStore

NOW = datetime(2026, 11, 21, tzinfo=UTC)


@pytest_asyncio.fixture
async def collection(database: Database) -> Collection:
    async def make(conn: Connection) -> Collection:
        return await collections.ensure(conn, "b", model="m", dimensions=3, now=NOW)

    return await database.run(make)


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


async def put(database: Database, store: FolderStore, collection: Collection, key: str, content: bytes) -> int:
    return await ingest(
        database, store, collection, image(key, content), content, thumbnail=b"thumbnail", preview=b"preview"
    )


async def objects(store: FolderStore) -> set[str]:
    return {stored.key async for stored in store.list()}


def with_derivatives(key: str, content: bytes) -> set[str]:
    digest = hashlib.sha256(content).digest()
    return {key, thumbnail_key(digest), preview_key(digest)}


async def trash(database: Database, collection: Collection) -> int:
    async def count(conn: Connection) -> int:
        row = await (await conn.execute(f"SELECT count(*) FROM {collection.base}_pending")).fetchone()
        assert row is not None
        return int(row[0])

    return await database.run(count)


async def test_an_image_is_removed_with_its_objects(
    database: Database, store: FolderStore, collection: Collection
) -> None:
    a = await put(database, store, collection, "a.jpg", b"a")
    b = await put(database, store, collection, "b.jpg", b"b")
    assert await trash(database, collection) == 0
    assert await delete_images(database, store, collection, [a, 99], tombstone=True) == 1
    assert await objects(store) == with_derivatives("b.jpg", b"b")
    assert await trash(database, collection) == 0
    assert await delete_images(database, store, collection, [a, b], tombstone=True) == 1
    assert await objects(store) == set()


async def test_derivatives_stay_as_long_as_an_image_has_their_content(
    database: Database, store: FolderStore, collection: Collection
) -> None:
    first = await put(database, store, collection, "first.jpg", b"same")
    second = await put(database, store, collection, "second.jpg", b"same")
    await delete_images(database, store, collection, [first], tombstone=True)
    assert await objects(store) == with_derivatives("second.jpg", b"same")
    await delete_images(database, store, collection, [second], tombstone=True)
    assert await objects(store) == set()


async def test_the_derivatives_of_what_an_image_was_are_deleted(
    database: Database, store: FolderStore, collection: Collection
) -> None:
    await put(database, store, collection, "a.jpg", b"old")
    await ingest(
        database, store, collection, image("a.jpg", b"new"), b"new", thumbnail=b"t", preview=b"p", replaces=True
    )
    await delete_pending_objects(database, store, collection)
    assert await objects(store) == with_derivatives("a.jpg", b"new")
    assert await store.get("a.jpg") == b"new"


async def test_the_object_of_somebody_else_is_neither_overwritten_nor_deleted(
    database: Database, store: FolderStore, collection: Collection
) -> None:
    await store.put("a.jpg", b"theirs", content_type="image/jpeg", cache_control="", sha256="0" * 64)
    with pytest.raises(ImageRefused) as refused:
        await put(database, store, collection, "a.jpg", b"ours")
    assert refused.value.reason is Reason.KEY_TAKEN
    await delete_pending_objects(database, store, collection)
    assert await objects(store) == {"a.jpg"}
    assert await store.get("a.jpg") == b"theirs"
    assert await trash(database, collection) == 0


@pytest.mark.parametrize("theirs", [True, False])
async def test_what_an_upload_left_that_was_killed_is_cleaned_up_if_it_is_ours(
    database: Database, store: FolderStore, collection: Collection, theirs: bool
) -> None:
    """Killed after it noted its keys, and before or after it stored the object."""
    ours = image("a.jpg", b"ours")

    async def announce(conn: Connection) -> None:
        source = await collections.ensure_source(conn, collection, "folder")
        await pending_objects.record_intents(
            conn, collection, [UploadIntent(ours.key, ours.sha256, derivatives=True)], source=source
        )

    await database.run(announce)
    digest = "0" * 64 if theirs else ours.sha256.hex()
    await store.put("a.jpg", b"something", content_type="image/jpeg", cache_control="", sha256=digest)
    assert await delete_pending_objects(database, store, collection) == 0, "the upload may be under way"

    async def give_up(conn: Connection) -> None:
        await pending_objects.abandon_uploads(conn, collection, source=None)

    await database.run(give_up)
    await delete_pending_objects(database, store, collection)
    assert await objects(store) == ({"a.jpg"} if theirs else set())
    assert await trash(database, collection) == 0


@pytest.mark.parametrize("described", [True, False])
async def test_an_edited_file_replaces_what_a_killed_upload_left_under_its_key(
    database: Database, store: FolderStore, collection: Collection, tmp_path: Path, described: bool
) -> None:
    """Killed after the object was written, and before or after the folder store described it."""
    left = image("a.jpg", b"left")

    async def announce(conn: Connection) -> None:
        await pending_objects.record_intents(
            conn, collection, [UploadIntent(left.key, left.sha256, derivatives=True)], source=None
        )
        await pending_objects.abandon_uploads(conn, collection, source=None)

    if described:
        await store.put("a.jpg", b"left", content_type="image/jpeg", cache_control="", sha256=left.sha256.hex())
    else:
        (tmp_path / "b" / "a.jpg").write_bytes(b"left")
    await database.run(announce)
    await put(database, store, collection, "a.jpg", b"edited")
    await delete_pending_objects(database, store, collection)
    assert await store.get("a.jpg") == b"edited"
    assert await objects(store) == with_derivatives("a.jpg", b"edited")


async def test_objects_that_could_not_be_deleted_are_deleted_later_but_not_what_came_there_since(
    database: Database, store: FolderStore, collection: Collection, monkeypatch: pytest.MonkeyPatch
) -> None:
    a = await put(database, store, collection, "a.jpg", b"a")
    b = await put(database, store, collection, "b.jpg", b"b")

    async def away(keys: object) -> None:
        raise StoreError("the store is away", transient=True)

    with monkeypatch.context() as patched:
        patched.setattr(store, "delete", away)
        assert await delete_images(database, store, collection, [a, b], tombstone=True) == 2
    await put(database, store, collection, "b.jpg", b"new")
    await delete_pending_objects(database, store, collection)
    assert await objects(store) == with_derivatives("b.jpg", b"new")


async def test_an_upload_that_took_too_long_stores_its_image_again(
    database: Database, store: FolderStore, collection: Collection, monkeypatch: pytest.MonkeyPatch
) -> None:
    original, puts = store.put, []

    async def slow(key: str, *arguments: object, **more: object) -> None:
        await original(key, *arguments, **more)  # type: ignore[arg-type]
        puts.append(key)
        if puts.count("a.jpg") == 1 and key == "a.jpg":
            await database.run(lambda conn: pending_objects.abandon_uploads(conn, collection, source=None))
            assert await delete_pending_objects(database, store, collection) == 3

    monkeypatch.setattr(store, "put", slow)
    await put(database, store, collection, "a.jpg", b"a")
    assert puts.count("a.jpg") == 2
    assert await objects(store) == with_derivatives("a.jpg", b"a")


@pytest.mark.parametrize("tombstone", [True, False])
async def test_a_removed_images_files_are_marked_or_forgotten(
    database: Database, store: FolderStore, collection: Collection, tombstone: bool
) -> None:
    a = await put(database, store, collection, "a.jpg", b"a")
    digest = hashlib.sha256(b"a").digest()

    async def record(conn: Connection) -> int:
        source = await collections.ensure_source(conn, collection, "folder")
        await files.record(conn, collection, source, "a.jpg", stat=(1, 1, 1), sha256=digest, image_id=a, now=NOW)
        return source

    source = await database.run(record)
    await delete_images(database, store, collection, [a], tombstone=tombstone)
    rows = await database.run(lambda conn: files.after(conn, collection, source, "", limit=9))
    assert [(row.path, row.removed, row.sha256, row.image_id) for row in rows] == (
        [("a.jpg", True, digest, None)] if tombstone else []
    )
    assert await database.run(lambda conn: image_rows.get(conn, collection, a)) is None


async def test_what_a_process_stored_that_was_killed_before_it_could_say_more_is_known_by_its_bytes(
    database: Database, store: FolderStore, collection: Collection, tmp_path: Path
) -> None:
    async def announce(conn: Connection) -> None:
        for key in ("ours.jpg", "theirs.jpg"):
            new = image(key, b"ours")
            await pending_objects.record_intents(
                conn, collection, [UploadIntent(key, new.sha256, derivatives=False)], source=None
            )
        await pending_objects.abandon_uploads(conn, collection, source=None)

    await database.run(announce)
    bucket = tmp_path / "b"
    (bucket / "ours.jpg").write_bytes(b"ours")
    (bucket / "theirs.jpg").write_bytes(b"theirs")
    await delete_pending_objects(database, store, collection)
    assert await objects(store) == {"theirs.jpg"}
    assert await trash(database, collection) == 0


@pytest.mark.parametrize("written_over", [True, False])
async def test_whether_a_killed_upload_wrote_over_another_image_is_told_by_the_object(
    database: Database, store: FolderStore, collection: Collection, written_over: bool
) -> None:
    await put(database, store, collection, "a.jpg", b"image")
    left = image("a.jpg", b"left")

    async def announce(conn: Connection) -> None:
        await pending_objects.record_intents(
            conn, collection, [UploadIntent(left.key, left.sha256, derivatives=False)], source=None
        )
        await pending_objects.abandon_uploads(conn, collection, source=None)

    await database.run(announce)
    if written_over:
        await store.put("a.jpg", b"left", content_type="image/jpeg", cache_control="", sha256=left.sha256.hex())
    await delete_pending_objects(database, store, collection)
    assert await objects(store) == with_derivatives("a.jpg", b"image")
    doubtful = await database.run(files.is_doubtful, collection=collection, key="a.jpg")
    assert doubtful is written_over, "the next sync has to store the image again"
