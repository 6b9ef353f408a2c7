"""``syncer verify``, and syncs of collections whose bucket is lost."""

import hashlib
import shutil
from pathlib import Path

import pytest

from tests.fakes.s3 import S3Server, s3_environment, s3_store
from tests.helpers.pictures import make_pictures, picture
from tests.helpers.processes import Syncer
from tests.helpers.queries import query
from tests.helpers.stored_objects import list_keys


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    make_pictures(tmp_path / "pictures", 6)
    return tmp_path / "pictures"


@pytest.fixture
def objects(syncer: Syncer, folder: Path, home: Path) -> Path:
    """Sync the folder and return the bucket's."""
    assert syncer("sync", folder, "--bucket", "b").status == 0
    return home / "buckets" / "b"


def vectors(database_url: str) -> list[tuple[object, ...]]:
    return query(database_url, "SELECT r2_key, embedding::text FROM b_embeddings ORDER BY r2_key")


def test_lost_objects_are_named_and_repaired_with_their_vectors(
    syncer: Syncer, objects: Path, folder: Path, database_url: str
) -> None:
    before = vectors(database_url)
    assert syncer("verify", "--bucket", "b").stdout == "b: every image has its objects; 0 repaired\n"
    (objects / "set 0" / "picture-0000.jpg").unlink()
    (objects / "set 1" / "picture-0001.jpg").write_bytes(b"cut off")
    content = hashlib.sha256((folder / "set 2" / "picture-0002.jpg").read_bytes()).hexdigest()
    (objects / ".image-browser" / "thumbnails" / f"{content}.webp").unlink()
    (objects / "other.jpg").write_bytes(picture(99))
    found = syncer("verify", "--bucket", "b")
    assert found.status == 3
    lines = found.stdout.splitlines()
    assert lines[:2] == ["missing      set 0/picture-0000.jpg", "wrong size   set 1/picture-0001.jpg"]
    assert lines[2:] == [
        "no thumbnail set 2/picture-0002.jpg",
        "b: 1 missing, 1 wrong size, 1 no thumbnail; 0 repaired",
        "  1 objects belong to no image; `syncer adopt` indexes the images among them",
    ]
    done = syncer("verify", "--bucket", "b", "--repair", "--json")
    assert (done.status, done.json["repaired"], done.json["damaged"]) == (0, 3, []), done.stderr
    for key in ("set 0/picture-0000.jpg", "set 1/picture-0001.jpg"):
        assert (objects / key).read_bytes() == (folder / key).read_bytes()
    assert vectors(database_url) == before
    assert syncer("upload", folder, "--bucket", "b", "--json").json["uploaded"] == 0


@pytest.mark.parametrize("loss", ["folder", "content"])
def test_a_sync_stops_at_a_lost_bucket_and_verify_restores_it(
    syncer: Syncer, objects: Path, folder: Path, database_url: str, loss: str
) -> None:
    before = vectors(database_url)
    shutil.rmtree(objects)
    if loss == "content":
        (objects / ".image-browser" / "folder-store" / "partial").mkdir(parents=True)
    for command in ("sync", "upload"):
        stopped = syncer(command, folder, "--bucket", "b")
        assert stopped.status == 1
        assert "mounted?" in stopped.stderr
    assert objects.exists() == (loss == "content")
    done = syncer("verify", "--bucket", "b", "--repair", "--json")
    assert (done.status, done.json["repaired"]) == (0, 6), done.stderr
    again = syncer("sync", folder, "--bucket", "b", "--json")
    assert (again.status, again.json["uploaded"], again.json["unchanged"]) == (0, 0, 6), again.stderr
    assert vectors(database_url) == before


async def test_an_emptied_bucket_of_s3_stops_a_sync(syncer: Syncer, folder: Path, s3: S3Server) -> None:
    s3.make_bucket("emptied")
    syncer.environment.update(s3_environment(s3.url))
    assert syncer("sync", folder, "--bucket", "emptied").status == 0
    store = s3_store(s3.url, "emptied")
    await store.delete(await list_keys(store))
    await store.close()
    stopped = syncer("sync", folder, "--bucket", "emptied")
    assert stopped.status == 1
    assert "bucket 'emptied' has lost .image-browser/bucket.json" in stopped.stderr
    assert "`syncer verify --bucket emptied`" in stopped.stderr


def test_an_image_that_no_folder_of_this_machine_holds_stays_damaged_until_its_next_sync(
    syncer: Syncer, folder: Path, home: Path
) -> None:
    source = ("--source", "another machine")
    assert syncer("upload", folder, "--bucket", "b", *source).status == 0
    (home / "buckets" / "b" / "set 0" / "picture-0000.jpg").unlink()
    left = syncer("verify", "--bucket", "b", "--repair", "--json")
    damaged = [{"key": "set 0/picture-0000.jpg", "problem": "missing"}]
    assert (left.status, left.json["damaged"]) == (3, damaged)
    assert syncer("upload", folder, "--bucket", "b", *source, "--json").json["uploaded"] == 1
    assert syncer("verify", "--bucket", "b").status == 0
