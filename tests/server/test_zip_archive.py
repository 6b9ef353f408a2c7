"""ZIP archives of originals: what is in them, and what ends with them."""

import asyncio
import io
import os
import tempfile
import zipfile
from collections.abc import AsyncIterator, Sequence
from datetime import UTC, datetime
from pathlib import Path

import psutil
import pytest

from server import zip_archive
from server.zip_archive import MemberNames
from shared.errors import StoreError
from shared.models import Hit, Image
from shared.stores.base import ObjectStore, StoredObject
from shared.stores.folder import FolderStore
from tests.fakes.s3 import S3Server, s3_store
from tests.helpers.stored_objects import put
from tests.helpers.waiting import wait_until


class CountingStore(FolderStore):
    """A folder store that counts downloads and can have an outage."""

    downloads = 0
    outage = False

    async def download(self, key: str, target: Path) -> StoredObject:
        self.downloads += 1
        if self.outage:
            raise StoreError("no connection", transient=True)
        return await super().download(key, target)


@pytest.fixture
async def store(tmp_path: Path) -> AsyncIterator[CountingStore]:
    opened = CountingStore(tmp_path / "buckets", "b", threads=1)
    await opened.prepare()
    yield opened
    await opened.close()


@pytest.fixture(params=["folder", "s3"])
async def each_store(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[ObjectStore]:
    opened: ObjectStore = FolderStore(tmp_path / "buckets", "zip")
    if request.param == "s3":
        s3: S3Server = request.getfixturevalue("s3")
        s3.make_bucket("zip")
        opened = s3_store(s3.url, "zip")
    await opened.prepare()
    yield opened
    await opened.close()


def image(key: str) -> Image:
    at = datetime(2024, 5, 31, 23, 30, 2)
    return Image(
        1, key, bytes(32), 1, "image/jpeg", 1, 1, None, False, False, at, None, None, at.replace(tzinfo=UTC), ""
    )


async def selected(keys: Sequence[str]) -> AsyncIterator[Sequence[Hit]]:
    for start in range(0, len(keys), 3):
        yield [Hit(image(key), None) for key in keys[start : start + 3]]


async def test_an_archive_holds_the_originals_and_a_note_for_each_missing_one(each_store: ObjectStore) -> None:
    keys = [f"2024/{number}.jpg" for number in range(7)]
    for key in keys:
        await put(each_store, key, key.encode() * 100_000)
    pieces = [piece async for piece in zip_archive.stream(each_store, selected(["2024/lost.jpg", *keys]))]
    archive = zipfile.ZipFile(io.BytesIO(b"".join(pieces)))
    assert archive.namelist() == ["2024/lost.jpg.missing.txt", *keys]
    assert all(archive.read(key) == key.encode() * 100_000 for key in keys)
    assert "2024/lost.jpg" in archive.read("2024/lost.jpg.missing.txt").decode()
    assert archive.getinfo(keys[0]).date_time == (2024, 5, 31, 23, 30, 2)


async def test_thousands_of_images_with_equal_names_stream_in_constant_memory(
    each_store: ObjectStore, tmp_path: Path
) -> None:
    count = 3_000 if isinstance(each_store, FolderStore) else 300
    await put(each_store, "a.jpg", os.urandom(30_000 * 3_000 // count))
    process, growth = psutil.Process(), []
    with (tmp_path / "all.zip").open("wb") as file:
        async for piece in zip_archive.stream(each_store, selected(["a.jpg"] * count)):
            file.write(piece)
            growth.append(process.memory_info().rss)
    with zipfile.ZipFile(tmp_path / "all.zip") as archive:
        assert len(set(archive.namelist())) == count
        assert archive.testzip() is None
    assert max(growth) - growth[0] < 30_000_000


async def test_an_outage_breaks_the_archive_off(store: CountingStore) -> None:
    store.outage = True
    with pytest.raises(StoreError, match="no connection"):
        async for _ in zip_archive.stream(store, selected(["a.jpg"])):
            pass


async def test_closing_the_stream_ends_the_reads_and_deletes_the_temporary_file(
    store: CountingStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    await put(store, "a.jpg", bytes(2_000_000))
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    stream = zip_archive.stream(store, selected(["a.jpg"] * 100))
    await anext(stream)
    assert list(tmp_path.glob("image-browser-*/original"))
    await stream.aclose()
    await asyncio.to_thread(wait_until, lambda: not list(tmp_path.glob("image-browser-*")))
    assert store.downloads <= 2


def test_names_are_safe_on_every_system_and_lead_out_of_no_folder() -> None:
    names = MemberNames()
    assert names.add("../../etc/passwd") == "etc/passwd"
    assert names.add("/a//b/./c.jpg") == "a/b/c.jpg"
    assert names.add("..\\..\\evil.jpg") == ".._.._evil.jpg"
    assert names.add("C:\\x\ny\x00\u202egpj.exe") == "C__x_y__gpj.exe"
    assert names.add("aux.jpg/con ") == "_aux.jpg/_con"
    assert names.add("...") == "_"
    assert names.add("..") == "image"


def test_equal_names_become_files_of_their_own() -> None:
    names = MemberNames()
    keys = ["a/B.jpg", "A/b.jpg", "a/b?.jpg", "a/b*.jpg", "a\u0308.jpg", "\xe4.jpg", "x", "x/y.jpg", "z/y.jpg", "z"]
    paths = [names.add(key) for key in keys]
    assert paths[:6] == ["a/B.jpg", "A/b (2).jpg", "a/b_.jpg", "a/b_ (2).jpg", "a\u0308.jpg", "\xe4 (2).jpg"]
    assert paths[6:] == ["x", "x (2)/y.jpg", "z/y.jpg", "z (2)"]


def test_long_names_are_cut_to_255_bytes_before_their_extension() -> None:
    names = MemberNames()
    first, second = names.add("\xe4" * 200 + ".jpeg"), names.add("\xe4" * 201 + ".jpeg")
    assert len(first.encode()) <= 255
    assert len(second.encode()) <= 255
    assert first.endswith("\xe4.jpeg")
    assert second.endswith("\xe4 (2).jpeg")
