"""`syncer adopt` as users run it, and rebuilding a lost database from a bucket."""

import os
import signal
import time
from collections.abc import AsyncIterator
from pathlib import Path
from uuid import uuid4

import pytest

from shared.stores.base import RESERVED_PREFIX, ObjectStore
from shared.stores.folder import FolderStore
from tests.fakes.s3 import Fault, FaultyProxy, S3Server, s3_environment, s3_store
from tests.helpers.pictures import make_pictures, picture
from tests.helpers.processes import Syncer, new_database, serving
from tests.helpers.queries import query
from tests.helpers.stored_objects import list_keys, put_externally

# Each test that starts processes uses one kind of store; tests/syncer/bucket/test_adopter.py covers both.
ON_S3 = pytest.mark.parametrize("store_kind", ["s3"], indirect=True)
IN_FOLDERS = pytest.mark.parametrize("store_kind", ["folder"], indirect=True)


@pytest.fixture
def bucket() -> str:
    return f"old-{uuid4().hex[:8]}"


@pytest.fixture(params=["folder", "s3"])
def store_kind(request: pytest.FixtureRequest, environment: dict[str, str], bucket: str) -> str:
    """Configure the commands of this test for a kind of store."""
    kind: str = request.param
    if kind == "s3":
        proxy: FaultyProxy = request.getfixturevalue("proxy")
        server: S3Server = request.getfixturevalue("s3")
        server.make_bucket(bucket)
        environment |= s3_environment(proxy.url)
    return kind


@pytest.fixture
async def store(store_kind: str, request: pytest.FixtureRequest, home: Path, bucket: str) -> AsyncIterator[ObjectStore]:
    opened: ObjectStore
    if store_kind == "s3":
        opened = s3_store(request.getfixturevalue("s3").url, bucket)
    else:
        opened = FolderStore(home / "buckets", bucket)
    await opened.prepare()
    yield opened
    await opened.close()


async def keys(store: ObjectStore) -> list[str]:
    return [key for key in await list_keys(store) if not key.startswith(RESERVED_PREFIX)]


@IN_FOLDERS
async def test_an_adopted_bucket_is_searchable_and_its_objects_stay_unchanged(
    syncer: Syncer, store: ObjectStore, bucket: str, photos: Path, environment: dict[str, str], tmp_path: Path
) -> None:
    for photo in photos.iterdir():
        put_externally(store, f"years/2019/{photo.name}", photo.read_bytes())
    put_externally(store, "no suffix", picture(1))
    put_externally(store, "elsewhere/photo.jpg", picture(2))
    put_externally(store, "elsewhere/film.mp4", b"a film")
    put_externally(store, "elsewhere/.hidden.jpg", picture(3))
    before = {found.key: found.etag async for found in store.list()}
    count = len(list(photos.iterdir()))

    some = syncer("adopt", "--bucket", bucket, "--prefix", "years/", "--json")
    assert some.status == 0, some.stderr
    assert (some.json["adopted"], some.json["embedded"], some.json["total"]) == (count, count, count)
    done = syncer("adopt", "--bucket", bucket, "--json")
    assert (done.status, done.json["adopted"], done.json["unchanged"]) == (0, 2, count)

    with serving(environment, tmp_path / "server.log") as server:
        for words, name in {"a cat": "cat", "a rocket": "rocket", "a cup of coffee": "coffee"}.items():
            first = server.get("/api/search", bucket=bucket, q=words)["images"][0]
            assert name in first["key"]
        assert (first["width"], first["height"]) == (600, 400)
        assert server.http.get(first["thumbnail_url"]).headers["content-type"] == "image/webp"
        assert server.http.get(first["url"]).content == (photos / "coffee.png").read_bytes()
    after = {found.key: found.etag async for found in store.list() if not found.key.startswith(RESERVED_PREFIX)}
    assert after == before

    # Adopted objects survive the collection.
    assert syncer("drop", "--bucket", bucket, "--yes").status == 0
    assert {found.key: found.etag async for found in store.list()} == before


@ON_S3
async def test_a_lost_database_is_rebuilt_from_the_bucket_without_uploads(
    syncer: Syncer, store: ObjectStore, bucket: str, tmp_path: Path, postgres: str, template: str
) -> None:
    folder = tmp_path / "pictures"
    make_pictures(folder, 30)
    assert syncer("upload", folder, "--bucket", bucket).status == 0
    objects = {found.key: (found.etag, found.modified) async for found in store.list()}
    with new_database(postgres, template) as empty:
        restored = Syncer(syncer.environment | {"DATABASE_URL": empty})
        done = restored("adopt", "--bucket", bucket, "--reclaim", "--json")
        assert (done.status, done.json["adopted"], done.json["embedded"]) == (0, 30, 30), done.stderr
        again = restored("sync", folder, "--bucket", bucket, "--json")
        assert (again.status, again.json["total"], again.json["embedded_now"]) == (0, 30, 0)
        assert {found.key: (found.etag, found.modified) async for found in store.list()} == objects
        # The objects belong to the collection again.
        assert restored("drop", "--bucket", bucket, "--yes").status == 0
        assert await keys(store) == []


@IN_FOLDERS
async def test_adopted_objects_survive_a_drop_even_if_a_folder_has_them_too(
    syncer: Syncer, store: ObjectStore, bucket: str, tmp_path: Path
) -> None:
    folder = tmp_path / "pictures"
    for path in make_pictures(folder, 3):
        put_externally(store, path.relative_to(folder).as_posix(), path.read_bytes())
    objects = await keys(store)
    assert syncer("adopt", "--bucket", bucket, "--no-embed").status == 0
    synced = syncer("sync", folder, "--bucket", bucket, "--json")
    assert (synced.status, synced.json["total"], synced.json["embedded"]) == (0, 3, 3)
    assert syncer("drop", "--bucket", bucket, "--yes").status == 0
    assert await keys(store) == objects


def images(database_url: str, bucket: str) -> int:
    return len(query(database_url, f"SELECT id FROM {bucket.replace('-', '_')}_images"))


@ON_S3
async def test_a_killed_adoption_resumes(
    syncer: Syncer, store: ObjectStore, bucket: str, database_url: str, tmp_path: Path
) -> None:
    for number in range(100):
        put_externally(store, f"{number:03}.jpg", picture(number))
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    indexed = 0
    for wanted in (1, 30):
        process = syncer.start("adopt", "--bucket", bucket, "--no-embed", TMPDIR=str(scratch))
        while process.poll() is None and images(database_url, bucket) < wanted:
            time.sleep(0.05)
        os.killpg(process.pid, signal.SIGKILL)
        process.communicate()
        indexed = images(database_url, bucket)
    done = syncer("adopt", "--bucket", bucket, "--no-embed", "--json", TMPDIR=str(scratch))
    assert (done.status, done.json["adopted"], done.json["unchanged"]) == (0, 100 - indexed, indexed)
    assert list(scratch.iterdir()) == []
    assert len(await list_keys(store, RESERVED_PREFIX)) == 200


@ON_S3
async def test_an_archived_object_does_not_stop_the_embedding_of_others(
    syncer: Syncer, store: ObjectStore, bucket: str, proxy: FaultyProxy
) -> None:
    for number in range(3):
        put_externally(store, f"{number}.jpg", picture(number))
    assert syncer("adopt", "--bucket", bucket, "--no-embed").status == 0
    archived = Fault("status", 403, "InvalidObjectState")
    proxy.rule = lambda request: archived if (request.kind, request.key) == ("get", "1.jpg") else None
    done = syncer("embed", "--bucket", bucket, "--json", IMAGE_ATTEMPTS="1")
    assert (done.status, done.json["embedded"], done.json["reasons"]) == (3, 2, {"unreadable": 1}), done.stderr


async def test_an_object_over_the_size_limit_is_rejected_without_reading_it(syncer: Syncer, home: Path) -> None:
    folder = home / "buckets" / "b"
    folder.mkdir(parents=True)
    with (folder / "huge.tif").open("wb") as file:
        file.truncate((2 << 30) + 1)
    done = syncer("adopt", "--bucket", "b", "--json")
    assert (done.status, done.json["reasons"]) == (3, {"too_large": 1})


@IN_FOLDERS
async def test_a_dry_run_changes_nothing_and_predicts_the_adoption(
    syncer: Syncer, store: ObjectStore, bucket: str, database_url: str, postgres: str
) -> None:
    for number in range(12):
        put_externally(store, f"{number:02}.jpg", picture(number))
    with new_database(postgres, "template1") as without_tables:
        predicted = syncer("adopt", "--bucket", bucket, "--dry-run", "--json", DATABASE_URL=without_tables)
        assert (predicted.status, predicted.json["new"]) == (0, 12), predicted.stderr
    predicted = syncer("adopt", "--bucket", bucket, "--dry-run", "--json")
    assert (predicted.status, predicted.json["new"], len(predicted.json["files"])) == (0, 12, 12), predicted.stderr
    assert images(database_url, bucket) == 0
    done = syncer("adopt", "--bucket", bucket, "--no-embed", "--json")
    assert (done.status, done.json["adopted"], done.json["gone"]) == (0, 12, 0)
    objects = await keys(store)

    await store.delete(objects[:1])
    predicted = syncer("adopt", "--bucket", bucket, "--dry-run", "--delete")
    assert predicted.stdout.splitlines()[0] == "deleted    00.jpg"
    kept = syncer("adopt", "--bucket", bucket, "--no-embed")
    assert (kept.status, "--delete" in kept.stderr, images(database_url, bucket)) == (0, True, 12)
    done = syncer("adopt", "--bucket", bucket, "--no-embed", "--delete", "--json")
    assert (done.status, done.json["deleted"], done.json["gone"], done.json["total"]) == (0, 1, 0, 11)

    await store.delete(objects[1:4])
    refused = syncer("adopt", "--bucket", bucket, "--no-embed", "--delete", "--json")
    assert (refused.status, refused.json["gone"], "3 of 11" in refused.json["withheld"]) == (1, 3, True)


def test_adopting_needs_a_bucket_and_a_valid_prefix(syncer: Syncer) -> None:
    for refused in (syncer("adopt"), syncer("adopt", "--dry-run")):
        assert refused.status == 1
        assert "--bucket" in refused.stderr
    refused = syncer("adopt", "--bucket", "b", "--prefix", os.fsdecode(b"\xff"))
    assert (refused.status, "--prefix" in refused.stderr) == (1, True)
