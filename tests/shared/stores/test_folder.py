"""Behaviour of folders alone: files on disk, killed processes, names that file systems refuse, addresses."""

import asyncio
import contextlib
import errno
import hashlib
import itertools
import os
import random
import signal
import subprocess
import sys
import tracemalloc
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from shared.errors import ImageRefused, ObjectExists, ObjectMissing, Reason, SettingsError, StoreError
from shared.stores.folder import FolderStore, folder_name
from tests.helpers.stored_objects import list_keys, put


@pytest.fixture
async def store(tmp_path: Path) -> AsyncIterator[FolderStore]:
    store = FolderStore(tmp_path, "photos")
    await store.prepare()
    yield store
    await store.close()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "photos"


def partial_files(folder: Path) -> list[Path]:
    return list((folder / ".image-browser/folder-store/partial").iterdir())


# --- files on disk ---


async def test_objects_are_plain_files_in_folders(store: FolderStore, folder: Path) -> None:
    await put(store, "holiday/Köln 1.jpg", b"pixels")
    assert (folder / "holiday" / "Köln 1.jpg").read_bytes() == b"pixels"
    assert sorted(path.name for path in folder.iterdir()) == [".image-browser", "holiday"]
    assert store.path("holiday/Köln 1.jpg") == folder.resolve() / "holiday" / "Köln 1.jpg"
    assert partial_files(folder) == []


async def test_files_and_folders_are_for_their_owner_alone(tmp_path: Path) -> None:
    before = os.umask(0)
    try:
        store = FolderStore(tmp_path / "open", "photos")
        await store.prepare()
        await put(store, "holiday/a.jpg")
        await store.copy("holiday/a.jpg", "copies/of/b.jpg")
        await store.close()
    finally:
        os.umask(before)
    folder = tmp_path / "open" / "photos"
    modes = {path.stat().st_mode & 0o777 for path in [folder, *folder.rglob("*")] if path.is_dir()}
    assert modes == {0o700}
    assert [path.stat().st_mode & 0o777 for path in folder.rglob("*.jpg")] == [0o600, 0o600]


async def test_files_added_by_hand_are_objects(store: FolderStore, folder: Path) -> None:
    (folder / "by hand").mkdir()
    (folder / "by hand" / "a.webp").write_bytes(b"pixels")
    (folder / "by hand" / "b.thing").write_bytes(b"things")
    assert await list_keys(store) == ["by hand/a.webp", "by hand/b.thing"]
    stored = await store.head("by hand/a.webp")
    assert (stored.size, stored.sha256, stored.content_type, stored.cache_control) == (6, None, "image/webp", None)
    assert (await store.head("by hand/b.thing")).content_type is None
    await store.delete(["by hand/a.webp"])
    assert await list_keys(store) == ["by hand/b.thing"]


@pytest.mark.parametrize("year", [1900, 2299, 3000])
async def test_objects_with_odd_times_are_listed(store: FolderStore, folder: Path, year: int) -> None:
    await put(store, "a.jpg", b"1")
    os.utime(folder / "a.jpg", ((year - 1970) * 31_556_952,) * 2)
    assert await list_keys(store) == ["a.jpg"]
    assert (await store.head("a.jpg")).modified.year <= 9999


async def test_a_file_changed_by_hand_loses_its_metadata(store: FolderStore, folder: Path) -> None:
    await put(store, "a.jpg", b"pixels")
    (folder / "a.jpg").write_bytes(b"PIXELS")
    stored = await store.head("a.jpg")
    assert (stored.sha256, stored.content_type, stored.cache_control) == (None, "image/jpeg", None)
    assert await store.get("a.jpg") == b"PIXELS"


async def test_deleting_the_last_object_of_a_folder_deletes_the_folder(store: FolderStore, folder: Path) -> None:
    await put(store, "a/b/c.jpg")
    await put(store, "a/d.jpg")
    await store.delete(["a/b/c.jpg"])
    assert [path.name for path in (folder / "a").iterdir()] == ["d.jpg"]
    await store.delete(["a/d.jpg"])
    assert not (folder / "a").exists()
    assert folder.exists()


async def test_a_copy_is_a_hard_link(store: FolderStore, folder: Path) -> None:
    await put(store, "a.jpg")
    await store.copy("a.jpg", "b.jpg")
    assert os.path.samefile(folder / "a.jpg", folder / "b.jpg")
    assert partial_files(folder) == []


async def test_concurrent_puts_and_deletes_in_one_folder_succeed(store: FolderStore) -> None:
    async def put_and_delete(name: str) -> None:
        for _ in range(30):
            await put(store, f"deep/folder/{name}")
            await store.delete([f"deep/folder/{name}"])
        await put(store, f"deep/folder/{name}")

    await asyncio.gather(*(put_and_delete(name) for name in "abcdefgh"))
    assert await list_keys(store) == [f"deep/folder/{name}" for name in "abcdefgh"]


async def test_file_systems_without_hard_links_are_supported(
    store: FolderStore, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*args: object, **kwargs: object) -> None:
        raise OSError(errno.EPERM, os.strerror(errno.EPERM))

    monkeypatch.setattr(os, "link", refuse)
    outcomes = await asyncio.gather(
        *(put(store, "a.jpg", str(number).encode(), overwrite=False) for number in range(8)), return_exceptions=True
    )
    assert [type(outcome) for outcome in outcomes if outcome] == [ObjectExists] * 7
    await store.copy("a.jpg", "b.jpg")
    assert await store.get("b.jpg") == await store.get("a.jpg")
    assert (await store.head("b.jpg")).sha256 == (await store.head("a.jpg")).sha256
    assert not os.path.samefile(folder / "a.jpg", folder / "b.jpg")
    assert partial_files(folder) == []


# --- killed processes ---

WRITER = """
import asyncio, hashlib, sys
from pathlib import Path
from shared.stores.folder import FolderStore

async def main():
    store = FolderStore(Path(sys.argv[1]), "photos")
    await store.prepare()
    print("ready", flush=True)
    for number in range(10**9):
        # All of one length, so that only modification times differ.
        body = f"{number:012}".encode() * 5000
        await store.put(f"{number % 3}.jpg", body, content_type=f"image/{number}", cache_control="",
                        sha256=hashlib.sha256(body).hexdigest())

asyncio.run(main())
"""


async def test_metadata_never_describe_other_bytes_after_a_kill(store: FolderStore, tmp_path: Path) -> None:
    rng = random.Random(1)
    for _ in range(8):
        writer = subprocess.Popen([sys.executable, "-c", WRITER, str(tmp_path)], stdout=subprocess.PIPE)
        assert writer.stdout is not None
        writer.stdout.readline()
        with contextlib.suppress(subprocess.TimeoutExpired):
            writer.wait(rng.uniform(0.02, 0.1))
        writer.send_signal(signal.SIGKILL)
        writer.communicate()
        for key in await list_keys(store):
            body = await store.get(key)
            stored = await store.head(key)
            assert len(body) == 60_000
            if stored.sha256 is not None:
                assert stored.sha256 == hashlib.sha256(body).hexdigest()
                assert stored.content_type == f"image/{int(body[:12])}"


@pytest.mark.parametrize("step", ["replace", "unlink", "link", "rename", "fsync"])
async def test_a_put_that_fails_at_any_step_leaves_the_old_object_or_the_new_one(
    store: FolderStore, folder: Path, monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    original = getattr(os, step)
    for failing_call in range(4):
        monkeypatch.undo()
        await put(store, "a.jpg", b"before")
        calls = itertools.count()

        def fail(*args: object, calls: Iterator[int] = calls, at: int = failing_call, **kwargs: object) -> object:
            if next(calls) == at:
                raise OSError(errno.EIO, "killed")
            return original(*args, **kwargs)

        monkeypatch.setattr(os, step, fail)
        with contextlib.suppress(StoreError):
            await put(store, "a.jpg", b"after!")
        monkeypatch.undo()
        body = await store.get("a.jpg")
        assert body in {b"before", b"after!"}
        assert (await store.head("a.jpg")).sha256 in {None, hashlib.sha256(body).hexdigest()}


async def test_temporary_files_of_killed_processes_are_no_objects_and_expire(store: FolderStore, folder: Path) -> None:
    partial = folder / ".image-browser/folder-store/partial"
    (partial / "fresh").write_bytes(b"half")
    (partial / "abandoned").write_bytes(b"half")
    os.utime(partial / "abandoned", (0, 0))
    assert await list_keys(store) == []
    await store.prepare()
    assert [path.name for path in partial_files(folder)] == ["fresh"]


async def test_corrupt_metadata_are_ignored(store: FolderStore, folder: Path) -> None:
    await put(store, "a.jpg")
    for metadata in (folder / ".image-browser/folder-store/metadata").glob("*/*.json"):
        for garbled in (b"", b"\0\0\0", b'{"key": "a.jpg"}', b"[]", b"\xff"):
            metadata.write_bytes(garbled)
            assert (await store.head("a.jpg")).sha256 is None
    await put(store, "a.jpg")
    assert (await store.head("a.jpg")).sha256 == hashlib.sha256(b"pixels").hexdigest()


# --- names ---


@pytest.mark.parametrize(
    ("key", "reason"),
    [
        ("a//b.jpg", "has an empty part"),
        ("/a.jpg", "has an empty part"),
        ("a/", "has an empty part"),
        ("a/../../b.jpg", "contains the part '.' or '..'"),
        ("a\0.jpg", "contains NUL"),
        ("ä" * 128 + ".jpg", "has a part of 260 bytes in UTF-8 (at most 255)"),
        (".image-browser/folder-store/metadata/x", "which is reserved"),
    ],
)
async def test_a_key_that_cannot_be_a_path_is_refused(store: FolderStore, key: str, reason: str) -> None:
    with pytest.raises(ImageRefused) as refused:
        await put(store, key)
    assert refused.value.reason is Reason.KEY_INVALID
    assert refused.value.final
    assert reason in refused.value.detail
    with pytest.raises(ObjectMissing):
        await store.get(key)
    with pytest.raises(ObjectMissing):
        store.path(key)


@pytest.mark.parametrize("overwrite", [True, False])
async def test_a_key_cannot_be_a_file_and_a_folder(store: FolderStore, overwrite: bool) -> None:
    await put(store, "a/b")
    for key, reason in [
        ("a", "a folder that contains other objects"),
        ("a/b/c", "needs a folder with the name of an existing object"),
    ]:
        with pytest.raises(ImageRefused, match=reason) as refused:
            await put(store, key, overwrite=overwrite)
        assert refused.value.reason is Reason.KEY_INVALID
        assert not refused.value.final
        with pytest.raises(ObjectMissing):
            await store.get(key)
    assert await list_keys(store) == ["a/b"]


async def test_an_empty_folder_left_by_a_killed_process_is_replaced(store: FolderStore, folder: Path) -> None:
    (folder / "a").mkdir()
    await put(store, "a")
    assert await list_keys(store) == ["a"]


async def test_symbolic_links_are_not_followed(store: FolderStore, folder: Path, tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "secret.jpg").write_bytes(b"secret")
    (folder / "folder").symlink_to(outside)
    (folder / "file.jpg").symlink_to(outside / "secret.jpg")
    (folder / "loop").symlink_to(folder)
    assert await list_keys(store) == []
    for key in ["folder/secret.jpg", "file.jpg", "loop/file.jpg"]:
        for read in (store.get, store.head, lambda key: store.copy(key, "copy.jpg")):
            with pytest.raises(ObjectMissing):
                await read(key)
        with pytest.raises(ObjectMissing):
            store.path(key)
    await store.delete(["folder/secret.jpg", "file.jpg"])
    for key in ["folder/new.jpg", "folder/deeper/new.jpg", "loop/new.jpg"]:
        with pytest.raises(ImageRefused, match="leads through a symbolic link"):
            await put(store, key)
    await put(store, "file.jpg", b"an object")
    assert (outside / "secret.jpg").read_bytes() == b"secret"
    assert [path.name for path in outside.iterdir()] == ["secret.jpg"]


async def test_the_folder_of_the_bucket_may_be_a_symbolic_link(tmp_path: Path) -> None:
    (tmp_path / "disk").mkdir()
    (tmp_path / "photos").symlink_to(tmp_path / "disk")
    store = FolderStore(tmp_path, "photos")
    await store.prepare()
    await put(store, "folder/a.jpg")
    assert (tmp_path / "disk" / "folder" / "a.jpg").exists()
    assert await list_keys(store) == ["folder/a.jpg"]
    await store.close()


async def test_pipes_and_names_outside_utf8_are_no_objects(store: FolderStore, folder: Path) -> None:
    os.mkfifo(folder / "pipe.jpg")
    (folder / os.fsdecode(b"not-utf8-\xff.jpg")).write_bytes(b"pixels")
    await put(store, "a.jpg")
    assert await list_keys(store) == ["a.jpg"]
    with pytest.raises(ObjectMissing):
        await store.get("pipe.jpg")


async def test_a_key_that_differs_only_in_case_is_refused_where_case_is_folded(
    store: FolderStore, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Simulates the default file system of macOS by mapping each key to a lower-case path."""
    find = store._path
    monkeypatch.setattr(store, "_path", lambda key: find(key).with_name(find(key).name.lower()))
    monkeypatch.setattr(store, "_folds_case", True)
    await put(store, "a.jpg", b"lower")
    await put(store, "a.jpg", b"lower again")
    for overwrite in (True, False):
        with pytest.raises(ImageRefused, match=r"'A\.jpg' differs only in case or accents") as refused:
            await put(store, "A.jpg", b"upper", overwrite=overwrite)
        assert refused.value.reason is Reason.KEY_INVALID
    with pytest.raises(ObjectExists):
        await put(store, "a.jpg", overwrite=False)
    for read in (store.get, store.head):
        with pytest.raises(ObjectMissing):
            await read("A.jpg")
    await store.delete(["A.jpg"])
    assert await store.get("a.jpg") == b"lower again"


def test_each_bucket_name_gets_its_own_folder() -> None:
    names = [
        "photos",
        "Photos",
        "PHOTOS",
        "my photos",
        "my-photos",
        "my_photos",
        "my'photos",
        'my"photos',
        "a/b",
        "a\\b",
    ]
    names += [
        "..",
        ".",
        "../up",
        ".hidden",
        "Fotos für Oma",
        "Fotos fu\u0308r Oma",
        "写真",
        "写真2",
        "🏖",
        "🏔",
        "a\0b",
        " ",
    ]
    names += ["x" * 200, "x" * 201, "x" * 5000, "x" * 5001, "photos~0123456789abcdef", "a\nb", "con.", "-rf"]
    folders = [folder_name(name) for name in names]
    assert len({folder.casefold() for folder in folders}) == len(names)
    for folder in folders:
        assert len(folder.encode()) <= 255
        assert not set("/\0\n\\\"'") & set(folder)
        assert folder.strip(".")
        assert not folder.startswith(".")
    assert folder_name("product-photos.2024_x") == "product-photos.2024_x"
    assert folder_name("Fotos für Oma").startswith("fotos-für-oma~")


def test_an_empty_or_undecodable_bucket_name_is_refused() -> None:
    for bucket in ("", "\ud800"):
        with pytest.raises(SettingsError, match="bucket name"):
            folder_name(bucket)


# --- listing ---


async def test_a_listing_needs_little_memory(store: FolderStore, folder: Path) -> None:
    for number in range(20):
        (folder / f"{number:02}").mkdir()
        for name in range(200):
            (folder / f"{number:02}" / f"a photo with a rather long name {name:04}.jpg").touch()
    tracemalloc.start()
    count = 0
    async for _ in store.list():
        count += 1
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert count == 4000
    assert peak < 1_000_000


async def test_an_unreadable_folder_is_an_error(store: FolderStore, monkeypatch: pytest.MonkeyPatch) -> None:
    await put(store, "closed/a.jpg")
    scandir = os.scandir

    def refuse(path: bytes) -> object:  # root, as which tests may run, can read everything
        if path.endswith(b"/closed"):
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), path)
        return scandir(path)

    monkeypatch.setattr(os, "scandir", refuse)
    with pytest.raises(StoreError, match="closed.*: allow this user to read"):
        await list_keys(store)


async def test_an_unmounted_disk_is_an_error(store: FolderStore, folder: Path, tmp_path: Path) -> None:
    await put(store, "a.jpg")
    folder.rename(tmp_path / "elsewhere")
    folder.mkdir()  # an empty mount point
    for attempt in (
        list_keys(store),
        store.get("a.jpg"),
        store.head("a.jpg"),
        put(store, "b.jpg"),
        store.delete(["a.jpg"]),
    ):
        with pytest.raises(StoreError, match="is the disk mounted") as error:
            await attempt
        assert not isinstance(error.value, ObjectMissing)
    assert list(folder.iterdir()) == []


async def test_a_folder_that_cannot_be_created_names_the_setting(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    store = FolderStore(tmp_path / "file", "photos")
    with pytest.raises(StoreError, match=r"file/photos for bucket 'photos': File exists: set IMAGE_BROWSER_HOME"):
        await store.prepare()
    await store.close()


async def test_a_full_disk_is_reported_with_a_remedy_and_leaves_no_files(
    store: FolderStore, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(descriptor: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(StoreError, match="No space left on device: free some disk space") as error:
        await put(store, "a.jpg")
    assert not error.value.transient
    assert await list_keys(store) == []
    assert partial_files(folder) == []


# --- addresses ---


@pytest.mark.parametrize(
    ("bucket", "key", "version", "address"),
    [
        ("photos", "a/b.jpg", "", "/files/photos/a/b.jpg"),
        ("photos", "a/b.jpg", "1f", "/files/photos/a/b.jpg?v=1f"),
        ("photos", "Köln/#1? 100%&.jpg", "a/b", "/files/photos/K%C3%B6ln/%231%3F%20100%25%26.jpg?v=a%2Fb"),
        ("my / photos", "a.jpg", "", "/files/my%20%2F%20photos/a.jpg"),
    ],
)
def test_addresses_are_paths_on_our_server(tmp_path: Path, bucket: str, key: str, version: str, address: str) -> None:
    assert FolderStore(tmp_path, bucket).address(key, version=version) == address
