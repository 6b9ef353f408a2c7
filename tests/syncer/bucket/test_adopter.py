"""Adopting buckets that change, unusable objects, and the number of requests."""

import asyncio
import gzip
import random
from collections import Counter
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
import pytest_asyncio

from shared.db.pool import Database
from shared.errors import StoreError
from shared.object_deletion import delete_images
from shared.retry import outage_policy
from shared.sql import queue
from shared.stores.base import RESERVED_PREFIX, ObjectStore
from shared.stores.folder import FolderStore
from shared.stores.s3 import S3Store
from syncer.bucket.adopter import AdoptionOptions, BucketAdopter
from syncer.bucket.planner import BucketPlanner
from syncer.bucket.scan import SOURCE, BucketScan
from syncer.deletion_policy import DeletionPolicy
from syncer.progress import Progress
from syncer.source import find_source
from tests.fakes.s3 import Fault, FaultyProxy, Request, S3Server, s3_store
from tests.helpers.processes import new_database
from tests.helpers.stored_objects import list_keys, put_externally
from tests.helpers.synced_folder import DELETE, DELETE_ANY, World, bitmap, sha256

KEEP = DeletionPolicy()
STRANGE = [
    "with space.bmp",
    "plus+and%2Bpercent%.bmp",
    "quote'\"`.bmp",
    "<angle>&amp;.bmp",
    "фото/снимок.bmp",
    "写真/猫.bmp",
    "emoji 🐈‍⬛.bmp",
    "cafe\u0301.bmp",  # NFD ...
    "caf\u00e9.bmp",  # ... and NFC
    "back\\slash.bmp",
    "question?mark=1&b#fragment.bmp",
    "a=b;c,d@e!f$g*h(i).bmp",
    "UPPER.BMP",
    "last\U0010fffd.bmp",
    "bell\x07\x1b[31m.bmp",
]


@dataclass
class Bucket:
    """A bucket to adopt; ``external`` is the access of the program that fills it."""

    world: World
    store: ObjectStore
    external: ObjectStore

    def put(self, key: str, body: bytes) -> None:
        put_externally(self.external, key, body)

    def fill(self, count: int, prefix: str = "") -> list[str]:
        keys = [f"{prefix}{number:03}.bmp" for number in range(count)]
        for number, key in enumerate(keys):
            self.put(key, bitmap(number))
        return keys

    def adopter(self, progress: Progress, **options: Any) -> BucketAdopter:
        complete = AdoptionOptions(**{"concurrency": 4, "derivatives": False, **options})
        return BucketAdopter(self.world.target(progress, store=self.store), complete)

    async def adopt(self, **options: Any) -> Counter[str]:
        """Adopt the bucket and embed; return the counts and set ``gone`` and ``withheld``."""
        progress = Progress(quiet=True)
        adopter = self.adopter(progress, **options)
        assert await adopter.run()
        self.gone, self.withheld = adopter.gone, adopter.withheld
        await self.world.embed()
        return +progress.counts

    async def dry_run(self, prefix: str = "", deletion: DeletionPolicy = KEEP) -> dict[str, str]:
        """Return the step for each key that is not unchanged."""
        source = await find_source(self.world.database, self.store.bucket, SOURCE)
        retry = outage_policy(20, lambda reason: None)
        plan = BucketPlanner(BucketScan(self.store, prefix, source=source, retry=retry), deletion)
        steps = {step.path: step.kind async for step in plan.steps()}
        self.withheld = plan.withheld
        return {key: kind for key, kind in steps.items() if kind != "unchanged"}

    async def keys(self) -> list[str]:
        """Return the keys of the collection's images."""
        return sorted(await self.world.rows())

    async def failures(self) -> dict[str, str]:
        """Return the reasons of rejected objects by key."""
        rows = await self.world.database.run(queue.failures, self.world.collection)
        return {row.key: row.reason for row in rows}

    async def derivatives(self) -> list[str]:
        return await list_keys(self.external, RESERVED_PREFIX)


@pytest_asyncio.fixture(params=["folder", "s3"])
async def bucket(request: pytest.FixtureRequest, tmp_path: Path, database: Database) -> AsyncIterator[Bucket]:
    name = f"old-{uuid4().hex[:8]}"
    async with AsyncExitStack() as stack:
        store: ObjectStore
        external: ObjectStore
        if request.param == "folder":
            store = external = FolderStore(tmp_path / "buckets", name)
        else:
            server: S3Server = request.getfixturevalue("s3")
            server.make_bucket(name)
            store = s3_store(request.getfixturevalue("proxy").url, name, retry_timeout=3.0)
            external = s3_store(server.url, name)
            stack.push_async_callback(external.close)
        yield Bucket(await World.make(stack, tmp_path / "folder", database, store), store, external)


ON_S3 = pytest.mark.parametrize("bucket", ["s3"], indirect=True)


# --- missing objects --------------------------------------------------------------------------------------------------


async def test_images_whose_objects_are_gone_are_counted_and_deleted_on_request(bucket: Bucket) -> None:
    keys = bucket.fill(30)
    bucket.put("elsewhere/a.bmp", bitmap(100))
    assert await bucket.adopt(derivatives=True) == {"adopted": 31}
    derived = await bucket.derivatives()
    await bucket.external.delete([keys[0], keys[29]])

    assert await bucket.adopt() == {"unchanged": 29}
    assert (bucket.gone, bucket.withheld, len(await bucket.keys())) == (2, "", 31)
    assert await bucket.adopt(deletion=DELETE, derivatives=True) == {"unchanged": 29, "deleted": 2}
    assert (bucket.gone, await bucket.keys()) == (0, [*keys[1:29], "elsewhere/a.bmp"])
    # Exactly their thumbnails and previews are deleted as well.
    assert len(await bucket.derivatives()) == len(derived) - 4


async def test_deleting_more_than_a_tenth_needs_confirmation(bucket: Bucket) -> None:
    keys = bucket.fill(20)
    await bucket.adopt()
    await bucket.external.delete(keys[:3])
    assert await bucket.adopt(deletion=DELETE) == {"unchanged": 17}
    assert bucket.gone == 3
    assert "3 of 20" in bucket.withheld
    assert await bucket.adopt(deletion=DELETE_ANY) == {"unchanged": 17, "deleted": 3}
    assert await bucket.keys() == keys[3:]


async def test_a_bucket_or_prefix_without_any_image_deletes_nothing(bucket: Bucket) -> None:
    keys = [*bucket.fill(3, "years/"), *bucket.fill(3, "zoo/")]
    await bucket.adopt()
    await bucket.adopt(prefix="year's/", deletion=DELETE_ANY)
    assert (bucket.gone, bucket.withheld) == (0, "")
    await bucket.external.delete(keys[:3])
    await bucket.adopt(prefix="years/", deletion=DELETE_ANY)
    assert "right prefix" in bucket.withheld
    await bucket.external.delete(keys)
    bucket.put("notes.txt", b"no image")
    await bucket.adopt(deletion=DELETE_ANY)
    assert "right bucket" in bucket.withheld
    assert (bucket.gone, await bucket.keys()) == (6, keys)


async def test_only_objects_under_the_prefix_can_be_missing(bucket: Bucket) -> None:
    for number, key in enumerate(["a.bmp", "b/1.bmp", "b/2.bmp", "b0.bmp", "b/.hidden/3.bmp"]):
        bucket.put(key, bitmap(number))
    assert await bucket.adopt() == {"adopted": 4}
    assert await bucket.adopt(prefix="b/.hidden/") == {"adopted": 1}
    await bucket.external.delete(["a.bmp", "b/1.bmp", "b0.bmp"])
    # The hidden object adopted under its own prefix is not missing, though this run does not look at it.
    assert await bucket.adopt(prefix="b/", deletion=DELETE_ANY) == {"unchanged": 1, "deleted": 1}
    assert await bucket.keys() == ["a.bmp", "b/.hidden/3.bmp", "b/2.bmp", "b0.bmp"]


async def test_rejections_and_tombstones_of_missing_objects_are_forgotten(bucket: Bucket) -> None:
    bucket.fill(3)
    bucket.put("text.bmp", b"no picture")
    await bucket.adopt()
    rows = await bucket.world.rows()
    await delete_images(
        bucket.world.database, bucket.store, bucket.world.collection, [rows["001.bmp"].id], tombstone=True
    )
    assert await bucket.failures() == {"text.bmp": "not_an_image"}
    await bucket.external.delete(["text.bmp", "001.bmp"])
    assert await bucket.adopt() == {"unchanged": 2}
    assert (bucket.gone, await bucket.failures()) == (0, {})
    # The tombstone of a missing object stays until a run with --delete.
    bucket.put("001.bmp", bitmap(1))
    if isinstance(bucket.store, S3Store):  # in a folder, another time is another version
        assert await bucket.adopt() == {"unchanged": 3}
    await bucket.external.delete(["001.bmp"])
    await bucket.adopt(deletion=DELETE)
    bucket.put("001.bmp", bitmap(1))
    assert await bucket.adopt() == {"unchanged": 2, "adopted": 1}


async def test_images_from_folders_are_never_missing_from_an_adoption(bucket: Bucket) -> None:
    bucket.fill(3)
    await bucket.adopt()
    bucket.world.write("from a folder.bmp", 50)
    await bucket.world.sync()
    await bucket.external.delete(["from a folder.bmp"])
    assert await bucket.adopt(deletion=DELETE_ANY) == {"unchanged": 3}
    assert (bucket.gone, len(await bucket.keys())) == (0, 4)


async def test_a_folder_uploads_its_copy_of_a_deleted_image(bucket: Bucket) -> None:
    bucket.fill(2)
    await bucket.adopt()
    bucket.world.write("000.bmp", 0)
    await bucket.world.sync()
    await bucket.external.delete(["000.bmp"])
    assert await bucket.adopt(deletion=DELETE_ANY) == {"unchanged": 1, "deleted": 1}
    await bucket.world.sync()
    assert await bucket.world.objects() == {"000.bmp": bitmap(0), "001.bmp": bitmap(1)}
    assert await bucket.keys() == ["000.bmp", "001.bmp"]


async def test_an_object_uploaded_under_an_adopted_key_after_the_listing_is_not_missing(bucket: Bucket) -> None:
    bucket.fill(2)
    await bucket.adopt()
    await bucket.external.delete(["000.bmp"])
    real = bucket.store.list

    async def late(prefix: str = "", *, start_after: str = "") -> AsyncIterator[Any]:
        async for found in real(prefix, start_after=start_after):
            yield found
        bucket.world.write("000.bmp", 50)
        await bucket.world.sync()

    bucket.store.list = late  # type: ignore[method-assign]
    await bucket.adopt(deletion=DELETE_ANY)
    assert await bucket.world.objects() == {"000.bmp": bitmap(50), "001.bmp": bitmap(1)}
    assert await bucket.keys() == ["000.bmp", "001.bmp"]


@ON_S3
async def test_an_incomplete_listing_deletes_nothing(bucket: Bucket, proxy: FaultyProxy) -> None:
    keys = bucket.fill(30)
    await bucket.adopt()
    await bucket.external.delete([keys[0]])
    pages = 0

    def second_page(fault: Fault) -> Callable[[Request], Fault | None]:
        def rule(request: Request) -> Fault | None:
            nonlocal pages
            pages += request.kind == "list"
            return fault if request.kind == "list" and pages > 1 else None

        return rule

    for fault in (
        Fault("status", 403, "AccessDenied"),
        Fault("status", 200, body="<html><body>Sign in to this network</body></html>"),
        Fault("status", 200, body=""),
    ):
        pages = 0
        proxy.rule = second_page(fault)
        with pytest.raises(ExceptionGroup) as raised:
            await bucket.adopt(deletion=DELETE_ANY)
        assert raised.group_contains(StoreError)
        assert await bucket.keys() == keys
    pages = 0
    proxy.fail_next(Fault("status", 503, "SlowDown"), "list", times=2)
    assert await bucket.adopt(deletion=DELETE_ANY) == {"unchanged": 29, "deleted": 1}


async def test_a_listing_out_of_order_deletes_nothing(bucket: Bucket) -> None:
    keys = bucket.fill(3)
    await bucket.adopt()
    real = bucket.store.list

    async def shuffled(prefix: str = "", *, start_after: str = "") -> AsyncIterator[Any]:
        for found in reversed([found async for found in real(prefix, start_after=start_after)]):
            yield found

    bucket.store.list = shuffled  # type: ignore[method-assign]
    await bucket.adopt(deletion=DELETE_ANY)
    assert await bucket.keys() == keys
    await bucket.external.delete(keys[:1])
    await bucket.adopt(deletion=DELETE_ANY)
    assert "in order" in bucket.withheld
    assert await bucket.keys() == keys


# --- dry run ----------------------------------------------------------------------------------------------------------


async def test_a_dry_run_predicts_what_an_adoption_does(bucket: Bucket) -> None:
    assert await bucket.dry_run() == {}
    keys = bucket.fill(12)
    assert await bucket.dry_run() == dict.fromkeys(keys, "new")
    await bucket.adopt()
    assert await bucket.dry_run() == {}
    await bucket.external.delete(keys[:1])
    bucket.put(keys[1], bitmap(100))
    bucket.put("new.bmp", bitmap(101))
    bucket.put("text.bmp", b"no picture")
    predicted = {keys[1]: "edited", "new.bmp": "new", "text.bmp": "new"}
    assert await bucket.dry_run() == predicted | {keys[0]: "gone"}
    assert await bucket.dry_run(deletion=DELETE) == predicted | {keys[0]: "deleted"}
    assert await bucket.dry_run(prefix="n") == {"new.bmp": "new"}
    assert await bucket.adopt(deletion=DELETE) == {"unchanged": 10, "adopted": 2, "failed": 1, "deleted": 1}
    assert await bucket.dry_run() == {"text.bmp": "unreadable"}
    await bucket.external.delete(keys[2:6])
    assert set((await bucket.dry_run(deletion=DELETE)).values()) == {"unreadable", "gone"}
    assert "4 of 12" in bucket.withheld


async def test_a_dry_run_before_the_first_adoption_knows_the_images_from_folders(bucket: Bucket) -> None:
    bucket.world.write("from a folder.bmp", 1)
    await bucket.world.sync()
    bucket.put("new.bmp", bitmap(2))
    assert await bucket.dry_run() == {"new.bmp": "new"}
    assert await bucket.adopt() == {"adopted": 1, "unchanged": 1}


# --- objects ----------------------------------------------------------------------------------------------------------


async def test_unusual_keys_are_adopted_and_recognised_again(bucket: Bucket) -> None:
    keys = [*STRANGE, "line\nbreak.bmp"] if isinstance(bucket.store, FolderStore) else STRANGE  # moto cannot
    for number, key in enumerate(keys):
        bucket.put(key, bitmap(number))
    assert await bucket.adopt(derivatives=True) == {"adopted": len(keys)}
    assert await bucket.keys() == sorted(keys)
    assert await bucket.adopt() == {"unchanged": len(keys)}
    assert bucket.gone == 0
    await bucket.external.delete(keys[1:])
    assert await bucket.adopt(deletion=DELETE_ANY) == {"unchanged": 1, "deleted": len(keys) - 1}
    assert await bucket.keys() == keys[:1]


@ON_S3
async def test_keys_that_only_s3_allows_are_adopted_or_rejected(bucket: Bucket) -> None:
    for key in ("/at the root.bmp", "double//slash.bmp", "ends with dot..bmp", "folder.bmp/", "space.bmp "):
        bucket.put(key, bitmap(len(key)))
    rejected = ["./a.bmp", "album/../b.bmp", "../c.bmp"]
    for number, key in enumerate(rejected):
        bucket.put(key, bitmap(50 + number))
    assert await bucket.adopt() == {"adopted": 5, "failed": 3}
    assert await bucket.failures() == dict.fromkeys(rejected, "key_invalid")


@ON_S3
async def test_a_key_that_a_database_cannot_store_is_left_out_and_named(
    bucket: Bucket, caplog: pytest.LogCaptureFixture
) -> None:
    for number, key in enumerate(["a.bmp", "b\0.bmp", "c.bmp"]):
        bucket.put(key, bitmap(number))
    assert await bucket.adopt() == {"adopted": 2}
    assert "b\0.bmp is left out: its key contains NUL" in caplog.text


@ON_S3
async def test_compressed_objects_are_decompressed_within_a_limit(
    bucket: Bucket, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("shared.stores.body.MAX_GUNZIPPED", 1000)
    store = bucket.external
    assert isinstance(store, S3Store)
    bodies = {"a.bmp": gzip.compress(bitmap(1)), "bomb.bmp": gzip.compress(bytes(2000)), "no gzip.bmp": bitmap(2)}
    for key, body in bodies.items():
        store._client.put_object(Bucket=store.bucket, Key=key, Body=body, ContentEncoding="gzip")
    assert await bucket.adopt() == {"adopted": 1, "failed": 2}
    assert await bucket.failures() == {"bomb.bmp": "too_large", "no gzip.bmp": "corrupt"}
    assert (await bucket.world.rows())["a.bmp"].sha256 == sha256(bitmap(1))
    assert await bucket.adopt() == {"unchanged": 1, "failed": 2}


def xmp(title: str) -> bytes:
    return (
        "<rdf:RDF xmlns:rdf='http://www.w3.org/1999/02/22-rdf-syntax-ns#'>"
        f"<rdf:Description xmlns:dc='http://purl.org/dc/elements/1.1/' dc:title='{title}'/></rdf:RDF>"
    ).encode()


async def titles(bucket: Bucket) -> dict[str, str | None]:
    world = bucket.world
    return dict(await world.execute(f"SELECT r2_key, title FROM {world.collection.base}_images"))  # type: ignore[arg-type]


async def test_a_sidecar_that_appears_changes_or_goes_updates_its_image(bucket: Bucket) -> None:
    bucket.put("a/1.bmp", bitmap(1))
    bucket.put("a/1.xmp", xmp("general"))
    bucket.put("b/2.bmp", bitmap(2))
    assert await bucket.adopt(concurrency=1) == {"adopted": 2}
    before = await bucket.world.rows()
    assert await titles(bucket) == {"a/1.bmp": "general", "b/2.bmp": None}
    assert await bucket.adopt() == {"unchanged": 2}
    bucket.put("a/1.bmp.xmp", xmp("special"))
    bucket.put("b/2.XMP", xmp("second"))
    assert await bucket.dry_run() == {"a/1.bmp": "described", "b/2.bmp": "described"}
    assert await bucket.adopt(prefix="b") == {"unchanged": 1, "described": 1}
    assert await bucket.adopt() == {"unchanged": 2, "described": 1}
    assert await titles(bucket) == {"a/1.bmp": "special", "b/2.bmp": "second"}
    await bucket.external.delete(["a/1.xmp", "a/1.bmp.xmp", "b/2.XMP"])
    assert await bucket.adopt() == {"unchanged": 2, "described": 2}
    assert await titles(bucket) == {"a/1.bmp": None, "b/2.bmp": None}
    assert await bucket.dry_run() == {}
    assert await bucket.world.rows() == before
    assert bucket.world.paid.total() == 2


async def test_a_sidecar_that_comes_pages_after_its_image_is_read(
    bucket: Bucket, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("syncer.bucket.scan.PAGE_SIZE", 2)
    bucket.fill(5)
    bucket.put("000.xmp", xmp("first"))  # after 000.bmp, and on another page
    bucket.put("000.jpg", b"")
    bucket.put("004.xmp", b"not XMP")
    assert await bucket.adopt() == {"adopted": 5, "failed": 1, "described": 1}
    assert (await titles(bucket))["000.bmp"] == "first"
    assert await bucket.adopt() == {"unchanged": 5, "failed": 1}


async def test_an_edited_object_keeps_its_sidecar(bucket: Bucket) -> None:
    bucket.put("a.bmp", bitmap(1))
    bucket.put("a.xmp", xmp("title"))
    await bucket.adopt()
    bucket.put("a.bmp", bitmap(2))
    bucket.put("a.xmp", xmp("new title"))
    assert await bucket.dry_run() == {"a.bmp": "edited"}
    assert await bucket.adopt() == {"adopted": 1}
    assert await titles(bucket) == {"a.bmp": "new title"}


async def test_objects_of_other_types_are_counted(bucket: Bucket) -> None:
    for key in ("a.bmp", "film.mp4", "b/other.MP4", "notes.txt", ".hidden.mp4"):
        bucket.put(key, bitmap(1))
    assert await bucket.dry_run() == {
        "a.bmp": "new",
        "film.mp4": "skipped",
        "b/other.MP4": "skipped",
        "notes.txt": "skipped",
    }
    progress = Progress(quiet=True)
    assert await bucket.adopter(progress).run()
    assert progress.skipped == {"mp4": 2, "txt": 1}


async def test_folders_of_systems_are_left_out_unless_the_prefix_names_them(bucket: Bucket) -> None:
    for number, key in enumerate(["a/@eaDir/1.bmp", "#recycle/2.bmp", "a/My.photoslibrary/resources/3.bmp", "a/4.bmp"]):
        bucket.put(key, bitmap(number))
    assert await bucket.adopt() == {"adopted": 1}
    assert await bucket.adopt(prefix="a/@eaDir/") == {"adopted": 1}
    assert await bucket.keys() == ["a/4.bmp", "a/@eaDir/1.bmp"]


async def test_a_prefix_matches_the_beginning_of_keys(bucket: Bucket) -> None:
    for number, key in enumerate(["2019.bmp", "2019/a.bmp", "2019/.b.bmp", "2019-old/c.bmp", ".cache/d.bmp"]):
        bucket.put(key, bitmap(number))
    assert await bucket.adopt(prefix="2019/") == {"adopted": 1}
    assert await bucket.adopt(prefix="2019") == {"adopted": 2, "unchanged": 1}
    assert await bucket.adopt(prefix=".ca") == {"adopted": 1}
    assert await bucket.adopt(prefix=RESERVED_PREFIX) == {}


async def test_empty_objects_that_represent_folders_are_ignored(bucket: Bucket) -> None:
    bucket.put("album_$folder$", b"")
    bucket.put("album/photo", bitmap(1))
    bucket.put("album/empty.bmp", b"")
    assert await bucket.adopt() == {"adopted": 1, "failed": 1}
    assert await bucket.failures() == {"album/empty.bmp": "empty_file"}


async def test_a_changed_object_is_adopted_again_and_a_rewritten_one_is_not(bucket: Bucket) -> None:
    bucket.fill(3)
    await bucket.adopt()
    before = await bucket.world.rows()
    bucket.put("001.bmp", bitmap(50))
    assert await bucket.adopt() == {"unchanged": 2, "adopted": 1}
    after = await bucket.world.rows()
    assert (after["001.bmp"].id, after["000.bmp"]) == (before["001.bmp"].id, before["000.bmp"])
    assert after["001.bmp"].vector != before["001.bmp"].vector
    if isinstance(bucket.store, S3Store):
        bucket.put("001.bmp", bitmap(50))
        assert await bucket.adopt() == {"unchanged": 3}


async def test_objects_deleted_during_the_adoption_are_skipped(bucket: Bucket) -> None:
    keys = bucket.fill(12)
    real = bucket.store.download

    async def download(key: str, target: Path) -> Any:
        if key in keys[3:9]:
            await bucket.external.delete([key])
        return await real(key, target)

    bucket.store.download = download  # type: ignore[method-assign]
    assert await bucket.adopt() == {"adopted": 6}
    assert (bucket.gone, await bucket.failures(), await bucket.keys()) == (0, {}, [*keys[:3], *keys[9:]])


async def test_a_rejected_object_is_read_again_only_after_a_change(bucket: Bucket) -> None:
    whole = bitmap(1)
    bodies = {"good.bmp": whole, "text.bmp": b"I am no picture", "empty.png": b"", "cut.bmp": whole[:40]}
    for key, body in {**bodies, "wrong suffix.png": bitmap(2), "notes.txt": b"left alone"}.items():
        bucket.put(key, body)
    assert await bucket.adopt() == {"adopted": 2, "failed": 3}
    refused = {"text.bmp": "not_an_image", "empty.png": "empty_file", "cut.bmp": "corrupt"}
    assert await bucket.failures() == refused
    real = bucket.store.download
    bucket.store.download = None  # type: ignore[method-assign, assignment]
    assert await bucket.adopt() == {"unchanged": 2, "failed": 3}
    bucket.store.download = real  # type: ignore[method-assign]
    bucket.put("text.bmp", bitmap(5))
    assert await bucket.adopt() == {"adopted": 1, "unchanged": 2, "failed": 2}
    del refused["text.bmp"]
    assert await bucket.failures() == refused


async def test_an_image_has_the_age_of_its_object(bucket: Bucket) -> None:
    bucket.fill(3)
    await bucket.adopt()
    listed = {found.key: found.modified async for found in bucket.external.list()}
    images = f"{bucket.world.collection.base}_images"
    assert dict(await bucket.world.execute(f"SELECT r2_key, created_at FROM {images}")) == listed


# --- a lost database --------------------------------------------------------------------------------------------------


@asynccontextmanager
async def lost_database(bucket: Bucket, postgres: str, template: str) -> AsyncIterator[None]:
    """Give the bucket an empty database during the block."""
    with new_database(postgres, template) as url:
        database = Database(url, max_connections=5, retry_timeout=5)
        await database.open()
        try:
            # The fixture closes the store, not this stack.
            bucket.world = await World.make(AsyncExitStack(), bucket.world.folder, database, bucket.store)
            yield
        finally:
            await database.close()


async def test_a_rebuilt_collection_belongs_to_its_folder_again(bucket: Bucket, postgres: str, template: str) -> None:
    world = bucket.world
    for number in range(12):
        world.write(f"{number % 3}/{number}.bmp", number)
    await world.sync(derivatives=True)
    objects = {(found.key, found.etag, found.modified) async for found in bucket.external.list()}
    bucket.put("theirs.bmp", bitmap(50))
    await bucket.adopt(derivatives=True)
    async with lost_database(bucket, postgres, template):
        rebuilt = bucket.world
        assert await bucket.adopt(reclaim=True, derivatives=True) == {"adopted": 13}
        assert await image_columns(rebuilt) == await image_columns(world)
        assert await rebuilt.sync(derivatives=True) == {"uploaded": 12}
        # Nothing was uploaded or embedded again.
        assert objects <= {(found.key, found.etag, found.modified) async for found in bucket.external.list()}
        assert rebuilt.paid == dict.fromkeys(rebuilt.paid, 1)
        assert await rebuilt.sync(derivatives=True) == {"unchanged": 12}
        # Moves, edits and deletions are synced as before.
        (world.folder / "0/0.bmp").rename(world.folder / "moved.bmp")
        world.write("1/1.bmp", 60)
        (world.folder / "2/2.bmp").unlink()
        done = await rebuilt.sync(derivatives=True, deletion=DELETE)
        assert done == {"unchanged": 9, "moved": 1, "uploaded": 1, "deleted": 1}
        assert await bucket.adopt(reclaim=True, deletion=DELETE_ANY) == {"unchanged": 12}
        await rebuilt.check(rebuilt.contents() | {"theirs.bmp": bitmap(50)})


async def image_columns(world: World) -> list[Any]:
    """Return every column of the images but id and creation time."""
    return await world.execute(
        "SELECT r2_key, origin, sha256, size, content_type, width, height, placeholder, derivatives, truncated,"
        " taken_local, taken_offset, camera, lens, keywords, title, caption, latitude, longitude, exif"
        f" FROM {world.collection.base}_images ORDER BY r2_key"
    )


async def test_an_interrupted_rebuild_resumes(bucket: Bucket, postgres: str, template: str) -> None:
    for number in range(12):
        bucket.world.write(f"{number}.bmp", number)
    await bucket.world.sync()
    async with lost_database(bucket, postgres, template):
        await bucket.adopt(prefix="1")  # without --reclaim, at first
        real, left = bucket.store.download, 5

        async def download(key: str, target: Path) -> Any:
            nonlocal left
            left -= 1
            if left < 0:
                raise StoreError("interrupted", transient=False)
            return await real(key, target)

        bucket.store.download = download  # type: ignore[method-assign]
        with pytest.raises(ExceptionGroup):
            await bucket.adopt(reclaim=True)
        bucket.store.download = real  # type: ignore[method-assign]
        await bucket.adopt(reclaim=True)
        assert {row[1] for row in await image_columns(bucket.world)} == {"folder"}


# --- concurrent adoptions ---------------------------------------------------------------------------------------------


@ON_S3
async def test_concurrent_adoptions_read_no_object_twice(bucket: Bucket, proxy: FaultyProxy) -> None:
    bucket.fill(30)
    proxy.clear()
    both = Progress(quiet=True)
    assert await asyncio.gather(bucket.adopter(both).run(), bucket.adopter(both).run()) == [True, True]
    assert both.counts == {"adopted": 30, "unchanged": 30}
    assert proxy.counts["get"] == 30


# --- restricted buckets -----------------------------------------------------------------------------------------------


@ON_S3
async def test_an_archived_object_is_rejected_until_it_is_restored(bucket: Bucket, proxy: FaultyProxy) -> None:
    bucket.fill(3)
    archived = Fault("status", 403, "InvalidObjectState")
    proxy.rule = lambda request: archived if (request.kind, request.key) == ("get", "001.bmp") else None
    assert await bucket.adopt() == {"adopted": 2, "failed": 1}
    assert await bucket.failures() == {"001.bmp": "unreadable"}
    proxy.rule = lambda request: None
    assert await bucket.adopt() == {"adopted": 1, "unchanged": 2}
    assert await bucket.failures() == {}


@ON_S3
async def test_a_read_only_bucket_is_adopted_without_derivatives(bucket: Bucket, proxy: FaultyProxy) -> None:
    keys = bucket.fill(3)
    denied = Fault("status", 403, "AccessDenied")
    proxy.rule = lambda request: denied if request.kind in {"put", "delete"} else None
    with pytest.raises(ExceptionGroup) as raised:
        await bucket.adopt(derivatives=True)
    assert raised.group_contains(StoreError, match="--no-derivatives")
    assert await bucket.adopt() == {"adopted": 3}
    assert await bucket.adopt() == {"unchanged": 3}
    await bucket.external.delete(keys[:1])
    assert await bucket.adopt(deletion=DELETE_ANY) == {"unchanged": 2, "deleted": 1}


@ON_S3
async def test_store_faults_lose_no_object(bucket: Bucket, proxy: FaultyProxy) -> None:
    bucket.fill(60)
    rng = random.Random(7)
    faults = [Fault("status", 503, "SlowDown"), Fault("status", 500), Fault("reset"), Fault("lost"), Fault("half")]
    proxy.rule = lambda request: rng.choice(faults) if rng.random() < 0.2 else None
    assert await bucket.adopt(derivatives=True) == {"adopted": 60}
    assert len(await bucket.derivatives()) == 120


# --- requests ---------------------------------------------------------------------------------------------------------


@ON_S3
async def test_an_adoption_makes_no_superfluous_requests(bucket: Bucket, proxy: FaultyProxy) -> None:
    keys = bucket.fill(25)
    for number in range(5):
        bucket.put(f"{number}.txt", b"left alone")
    proxy.clear()
    await bucket.adopt()
    assert proxy.counts == {"list": 3, "get": 25}  # ten objects a page
    proxy.clear()
    await bucket.adopt(deletion=DELETE)
    assert proxy.counts == {"list": 3}
    bucket.put("more.bmp", bitmap(60))
    await bucket.external.delete(keys[:1])
    proxy.clear()
    await bucket.adopt(deletion=DELETE, derivatives=True)
    # The listing skips the reserved prefix, which costs one more request.
    assert proxy.counts == {"list": 3, "get": 1, "put": 2}
    proxy.clear()
    await bucket.adopt()
    assert proxy.counts["list"] <= 4
    assert proxy.counts.keys() == {"list"}
