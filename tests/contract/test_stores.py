"""Contract of ObjectStore, tested on each adapter. A new adapter needs one more fixture."""

import asyncio
import contextlib
import hashlib
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import replace
from pathlib import Path

import pytest

from shared.errors import ImageRefused, ObjectExists, ObjectMissing, Reason, StoreError
from shared.stores.base import CACHE_IMAGE, CACHE_IMMUTABLE, ObjectStore, StoredObject
from shared.stores.folder import FolderStore
from tests.fakes.s3 import S3Server, s3_store
from tests.helpers.stored_objects import list_keys, put

MakeStore = Callable[[str], ObjectStore]

AWKWARD_KEYS = [
    "a.jpg",
    "A.jpg",
    "with space.jpg",
    " leading and trailing ",
    'quote\'s "double" `back`.jpg',
    "back\\slash.jpg",
    "percent%20sign%.jpg",
    "plus+and&ampersand=?#hash;semi:colon,comma@at.jpg",
    "[brackets]{braces}<angles>|pipe^~$!*().jpg",
    "Grüße aus Köln.jpg",  # NFC
    "Gru\u0308ße aus Ko\u0308ln.jpg",  # NFD
    "日本語/写真.png",
    "עברית/תמונה.webp",
    "emoji 🏖️👩‍👩‍👧.gif",
    "\U0001f3d6.jpg",  # sorts after \uff5e in UTF-8, before it in UTF-16
    "\uff5e.jpg",
    "deep/er/and/de/ep/er.jpg",
    ".hidden",
    ".image-browser/thumbnails/abc.webp",
    "dots...jpg",
    "tab\there.jpg",
    "x" * 255,
    "/".join(["y" * 204] * 5),
]


@pytest.fixture
def make_folder_store(tmp_path: Path) -> MakeStore:
    return lambda bucket: FolderStore(tmp_path / "stores", bucket)


@pytest.fixture
def make_s3_store(s3: S3Server) -> MakeStore:
    test = uuid.uuid4().hex[:8]

    def make(bucket: str) -> ObjectStore:
        if "never" not in bucket:
            s3.make_bucket(f"{bucket}-{test}")
        return s3_store(s3.url, f"{bucket}-{test}")

    return make


@pytest.fixture(params=["folder", "s3"])
def make_store(request: pytest.FixtureRequest) -> MakeStore:
    """Return a function that makes the store of a bucket; all buckets share a service that is empty at first."""
    make: MakeStore = request.getfixturevalue(f"make_{request.param}_store")
    return make


@pytest.fixture
async def store(make_store: MakeStore) -> AsyncIterator[ObjectStore]:
    async with opened(make_store("photos")) as store:
        yield store


@contextlib.asynccontextmanager
async def opened(store: ObjectStore) -> AsyncIterator[ObjectStore]:
    await store.prepare()
    try:
        yield store
    finally:
        await store.close()


async def find_in_listing(store: ObjectStore, key: str) -> StoredObject:
    return next(stored for stored in [stored async for stored in store.list(key)] if stored.key == key)


async def test_a_file_can_be_stored(store: ObjectStore, tmp_path: Path) -> None:
    photo = tmp_path / "photo.jpg"
    photo.write_bytes(b"pixels from a file" * 1000)
    await put(store, "a.jpg", photo)
    assert await store.get("a.jpg") == photo.read_bytes()


async def test_an_empty_object_can_be_stored(store: ObjectStore, tmp_path: Path) -> None:
    empty = tmp_path / "empty"
    empty.touch()
    await put(store, "bytes", b"")
    await put(store, "file", empty)
    assert await store.get("bytes") == b""
    assert await store.get("file") == b""
    assert (await store.head("file")).size == 0


async def test_head_returns_the_attributes_of_the_put(store: ObjectStore) -> None:
    digest = hashlib.sha256(b"pixels").hexdigest()
    await store.put("a.webp", b"pixels", content_type="image/webp", cache_control=CACHE_IMMUTABLE, sha256=digest)
    stored = await store.head("a.webp")
    assert stored.key == "a.webp"
    assert stored.size == 6
    assert stored.sha256 == digest
    assert stored.content_type == "image/webp"
    assert stored.cache_control == CACHE_IMMUTABLE
    assert stored.modified.tzinfo is not None


async def test_a_listing_and_head_agree(store: ObjectStore) -> None:
    await put(store, "a.jpg")
    from_listing, from_head = await find_in_listing(store, "a.jpg"), await store.head("a.jpg")
    assert (from_listing.key, from_listing.size, from_listing.etag) == (from_head.key, from_head.size, from_head.etag)
    assert from_listing.modified.replace(microsecond=0) == from_head.modified.replace(microsecond=0)


async def test_a_put_replaces_bytes_and_attributes(store: ObjectStore) -> None:
    await put(store, "a.jpg", b"old pixels")
    before = await store.head("a.jpg")
    digest = hashlib.sha256(b"new pixels").hexdigest()
    await store.put("a.jpg", b"new pixels", content_type="image/png", cache_control=CACHE_IMMUTABLE, sha256=digest)
    after = await store.head("a.jpg")
    assert await store.get("a.jpg") == b"new pixels"
    assert (after.sha256, after.content_type, after.cache_control) == (digest, "image/png", CACHE_IMMUTABLE)
    assert after.etag != before.etag


async def test_a_put_without_overwriting_leaves_an_existing_object_alone(store: ObjectStore) -> None:
    await put(store, "a.jpg", b"first", overwrite=False)
    before = await store.head("a.jpg")
    with pytest.raises(ObjectExists, match=r"a\.jpg"):
        await put(store, "a.jpg", b"second", overwrite=False)
    assert await store.get("a.jpg") == b"first"
    assert await store.head("a.jpg") == before


async def test_one_of_several_concurrent_puts_without_overwriting_succeeds(store: ObjectStore) -> None:
    bodies = [f"body {number}".encode() for number in range(8)]
    outcomes = await asyncio.gather(
        *(put(store, "a.jpg", body, overwrite=False) for body in bodies), return_exceptions=True
    )
    winners = [body for body, outcome in zip(bodies, outcomes, strict=True) if outcome is None]
    assert len(winners) == 1
    assert sum(isinstance(outcome, ObjectExists) for outcome in outcomes) == 7
    assert await store.get("a.jpg") == winners[0]


async def test_concurrent_puts_leave_one_complete_object(store: ObjectStore) -> None:
    bodies = [str(number).encode() * 100_000 for number in range(8)]
    await asyncio.gather(*(put(store, "a.jpg", body) for body in bodies))
    stored = await store.get("a.jpg")
    assert stored in bodies
    assert (await store.head("a.jpg")).sha256 in {None, hashlib.sha256(stored).hexdigest()}


async def test_a_file_that_changed_is_not_stored(store: ObjectStore, tmp_path: Path) -> None:
    photo = tmp_path / "photo.jpg"
    photo.write_bytes(b"after the edit")
    before = hashlib.sha256(b"before the edit").hexdigest()
    with pytest.raises(ImageRefused) as refused:
        await put(store, "a.jpg", photo, sha256=before)
    assert refused.value.reason is Reason.CHANGED
    assert not refused.value.final
    assert await list_keys(store) == []


async def test_an_unreadable_file_is_refused(store: ObjectStore, tmp_path: Path) -> None:
    missing = tmp_path / "missing.jpg"
    with pytest.raises(ImageRefused, match=r"missing\.jpg") as refused:
        await store.put("a.jpg", missing, content_type="image/jpeg", cache_control=CACHE_IMAGE, sha256="0" * 64)
    assert refused.value.reason is Reason.UNREADABLE
    assert await list_keys(store) == []


async def test_a_download_writes_the_bytes_and_returns_the_attributes(store: ObjectStore, tmp_path: Path) -> None:
    target = tmp_path / "target"
    target.write_bytes(b"longer content from before")
    await put(store, "folder/a.jpg", b"some pixels")
    assert await store.download("folder/a.jpg", target) == await store.head("folder/a.jpg")
    assert target.read_bytes() == b"some pixels"
    with pytest.raises(ObjectMissing, match=r"nothing/here\.jpg"):
        await store.download("nothing/here.jpg", target)


async def test_a_download_into_a_missing_folder_is_no_error_of_the_store(store: ObjectStore, tmp_path: Path) -> None:
    await put(store, "a.jpg")
    with pytest.raises(FileNotFoundError):
        await store.download("a.jpg", tmp_path / "missing" / "a.jpg")


@pytest.mark.parametrize("call", ["get", "head"])
async def test_reading_a_missing_object_names_the_key(store: ObjectStore, call: str) -> None:
    with pytest.raises(ObjectMissing, match=r"nothing/here\.jpg"):
        await getattr(store, call)("nothing/here.jpg")


@pytest.mark.parametrize("key", AWKWARD_KEYS, ids=[ascii(key)[:40] for key in AWKWARD_KEYS])
async def test_every_possible_key_survives(store: ObjectStore, key: str) -> None:
    await put(store, key, key.encode())
    assert await store.get(key) == key.encode()
    assert (await store.head(key)).key == key
    assert await list_keys(store) == [key]
    assert await list_keys(store, key) == [key]
    await store.copy(key, "copy")
    assert await store.get("copy") == key.encode()
    await store.delete([key])
    assert await list_keys(store) == ["copy"]


@pytest.mark.parametrize(
    "key", ["bell\x07.jpg", "\x1b[31mred\x1b[0m.jpg", "carriage\rreturn.jpg", "\x7f\x85\x9b\ufffe.jpg"]
)
async def test_a_key_with_control_characters_survives(store: ObjectStore, key: str) -> None:
    await put(store, "a.jpg")
    await put(store, key, b"pixels of " + key.encode())
    assert await store.get(key) == b"pixels of " + key.encode()
    assert await list_keys(store) == sorted(["a.jpg", key], key=str.encode)
    await store.copy(key, f"copy of {key}")
    await store.delete([key, "a.jpg", "missing\x01.jpg"])
    assert await list_keys(store) == [f"copy of {key}"]
    assert store.address(key).isprintable()


IMPOSSIBLE_KEYS = {
    "empty": "",
    "too long": "ä" * 513,
    "surrogate": "a\ud800.jpg",
    "NUL": "a\0.jpg",
    "parent folder": "a/../b.jpg",
    "current folder": "./b.jpg",
}


@pytest.mark.parametrize("key", IMPOSSIBLE_KEYS.values(), ids=IMPOSSIBLE_KEYS.keys())
async def test_an_impossible_key_is_refused_by_writes_and_missing_for_reads(store: ObjectStore, key: str) -> None:
    await put(store, "a.jpg")
    for attempt in (lambda: put(store, key), lambda: store.copy("a.jpg", key)):
        with pytest.raises(ImageRefused) as refused:
            await attempt()
        assert refused.value.reason is Reason.KEY_INVALID
    for read in (store.get, store.head, lambda key: store.copy(key, "b.jpg")):
        with pytest.raises(ObjectMissing):
            await read(key)
    await store.delete([key])
    assert await list_keys(store) == ["a.jpg"]


async def test_a_copy_has_the_same_bytes_and_attributes(store: ObjectStore) -> None:
    await put(store, "old/name.jpg", b"pixels")
    await store.copy("old/name.jpg", "new/näme.jpg")
    copied, original = await store.head("new/näme.jpg"), await store.head("old/name.jpg")
    assert await store.get("new/näme.jpg") == b"pixels"
    assert replace(copied, key=original.key, modified=original.modified, etag=original.etag) == original


async def test_a_copy_is_independent_of_its_source(store: ObjectStore) -> None:
    await put(store, "a.jpg", b"first")
    await store.copy("a.jpg", "b.jpg")
    await put(store, "a.jpg", b"second")
    assert await store.get("b.jpg") == b"first"
    assert (await store.head("b.jpg")).sha256 == hashlib.sha256(b"first").hexdigest()
    await store.delete(["a.jpg"])
    assert await store.get("b.jpg") == b"first"


async def test_a_copy_replaces_an_existing_object(store: ObjectStore) -> None:
    await put(store, "a.jpg", b"first")
    await put(store, "b.jpg", b"second")
    for _ in range(2):
        await store.copy("a.jpg", "b.jpg")
        assert await store.get("b.jpg") == b"first"
        assert (await store.head("b.jpg")).sha256 == hashlib.sha256(b"first").hexdigest()
    assert await list_keys(store) == ["a.jpg", "b.jpg"]


async def test_a_copy_onto_itself_changes_nothing(store: ObjectStore) -> None:
    await put(store, "a.jpg", b"pixels")
    before = await store.head("a.jpg")
    await store.copy("a.jpg", "a.jpg")
    assert await store.get("a.jpg") == b"pixels"
    after = await store.head("a.jpg")
    assert replace(after, modified=before.modified, etag=before.etag) == before


async def test_copying_a_missing_object_leaves_the_target_alone(store: ObjectStore) -> None:
    await put(store, "b.jpg", b"second")
    with pytest.raises(ObjectMissing, match=r"a\.jpg"):
        await store.copy("a.jpg", "b.jpg")
    with pytest.raises(ObjectMissing, match=r"a\.jpg"):
        await store.copy("a.jpg", "a.jpg")
    assert await store.get("b.jpg") == b"second"


async def test_delete_removes_only_the_given_keys(store: ObjectStore) -> None:
    for key in ["a.jpg", "b.jpg", "folder/c.jpg", "folder/d.jpg"]:
        await put(store, key)
    await store.delete(["a.jpg", "folder/c.jpg", "missing/file.jpg", "b.jpg/below", "folder"])
    assert await list_keys(store) == ["b.jpg", "folder/d.jpg"]
    await store.delete(["a.jpg"])
    await store.delete([])
    assert await list_keys(store) == ["b.jpg", "folder/d.jpg"]


async def test_a_deleted_key_is_free_again(store: ObjectStore) -> None:
    await put(store, "folder/a.jpg", b"first")
    await store.delete(["folder/a.jpg"])
    await put(store, "folder/a.jpg", b"second", overwrite=False)
    assert await store.get("folder/a.jpg") == b"second"
    await store.delete(["folder/a.jpg"])
    await put(store, "folder", b"third")
    assert await list_keys(store) == ["folder"]


async def test_similar_keys_are_different_objects_and_listed_in_utf8_byte_order(store: ObjectStore) -> None:
    keys = [*AWKWARD_KEYS, "deep-er.jpg", "deep.jpg", "deep0.jpg", "deep/er.jpg", "deep/er-.jpg", "\x7f.jpg"]
    for key in keys:
        await put(store, key, key.encode())
    assert await list_keys(store) == sorted(keys, key=str.encode)
    for key in keys:
        assert await store.get(key) == key.encode()


async def test_a_listing_can_start_after_any_key_and_below_any_prefix(store: ObjectStore) -> None:
    present = ["a", "b-", "b/c", "b/c-", "b/d/e", "b/d/f", "b0", "ba/x", "c"]
    for key in present:
        await put(store, key)
    points = sorted({"", *present, "b", "b/", "b/d", "b/d/", "b/d/e0", "ba", "ba/", "d", "b/c/", "zz"})
    for prefix in points:
        for start in points:
            assert await list_keys(store, prefix, start_after=start) == [
                key for key in present if key.startswith(prefix) and key > start
            ], (prefix, start)


async def test_a_listing_can_be_resumed(store: ObjectStore) -> None:
    present = [f"{number:02}.jpg" for number in range(30)]
    for key in present:
        await put(store, key)
    first = []
    async for stored in store.list():
        first.append(stored.key)
        if len(first) == 11:
            break
    assert first + await list_keys(store, start_after=first[-1]) == present


async def test_buckets_are_separate(make_store: MakeStore) -> None:
    async with opened(make_store("photos")) as one, opened(make_store("photos-2")) as other:
        await put(one, "a.jpg", b"one")
        await put(other, "a.jpg", b"other")
        assert await one.get("a.jpg") == b"one"
        await one.delete(["a.jpg"])
        assert await other.get("a.jpg") == b"other"


async def test_a_second_store_of_the_bucket_sees_the_objects_of_the_first(make_store: MakeStore) -> None:
    async with opened(make_store("photos")) as writer:
        await put(writer, "a.jpg", b"pixels")
        async with opened(make_store("photos")) as reader:
            assert await reader.get("a.jpg") == b"pixels"
            assert await reader.head("a.jpg") == await writer.head("a.jpg")


async def test_prepare_keeps_existing_objects(store: ObjectStore) -> None:
    await put(store, "a.jpg", b"pixels")
    await store.prepare()
    assert await store.get("a.jpg") == b"pixels"


async def test_addresses_are_unique_stable_and_safe_in_html(store: ObjectStore) -> None:
    for key in AWKWARD_KEYS:
        address = store.address(key, version="abc")
        assert address == store.address(key, version="abc")
        assert address.isascii()
        assert address.startswith(("/", "http://", "https://"))
        assert not set(address) & set(" \"'<>\\\n\t")
    assert len({store.address(key) for key in AWKWARD_KEYS}) == len(AWKWARD_KEYS)


async def test_a_missing_bucket_is_an_error(make_store: MakeStore) -> None:
    store = make_store("never-prepared")
    attempts: list[Callable[[], Awaitable[object]]] = [
        lambda: list_keys(store),
        lambda: put(store, "a.jpg"),
        lambda: store.get("a.jpg"),
        lambda: store.delete(["a.jpg"]),
    ]
    try:
        for attempt in attempts:
            with pytest.raises(StoreError, match="never-prepared") as error:
                await attempt()
            assert not isinstance(error.value, ObjectMissing)
            assert not error.value.transient
    finally:
        await store.close()
