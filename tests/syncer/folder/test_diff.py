"""Comparison of a folder's listing with the recorded files."""

from collections.abc import AsyncIterator, Iterable
from pathlib import Path
from typing import TypeVar

import pytest

from shared.errors import ImageRefused, Reason
from shared.models import KnownFile
from syncer.folder.diff import is_unchanged, merge
from syncer.folder.scan import LocalFile, Unlisted

T = TypeVar("T")


def file(path: str = "a", *, size: int = 1, time: int = 1, ctime: int | None = None) -> LocalFile:
    return LocalFile(path, Path("/photos"), size, time, time if ctime is None else ctime)


def known(
    path: str = "a",
    *,
    ctime: int = 1,
    sha256: bytes | None = b"sha",
    image_id: int | None = 1,
    removed: bool = False,
    reason: str | None = None,
) -> KnownFile:
    return KnownFile(path, 1, 1, ctime, "", sha256, image_id, removed, reason)


async def stream(items: Iterable[T]) -> AsyncIterator[T]:
    for item in items:
        yield item


async def merged(files: list[LocalFile | Unlisted], rows: list[KnownFile]) -> list[tuple[str | None, str | None]]:
    pairs = [pair async for pair in merge(stream(files), stream(rows))]
    return [(one and one.path, other and other.path) for one, other in pairs]


async def test_each_path_comes_once_in_order_with_its_file_and_its_record() -> None:
    pairs = await merged([file("a"), file("b"), file("d")], [known("b"), known("c")])
    assert pairs == [("a", None), ("b", "b"), (None, "c"), ("d", None)]


async def test_records_below_a_folder_that_cannot_be_listed_are_not_missing() -> None:
    unlisted = Unlisted("b/", ImageRefused(Reason.UNREADABLE, "it cannot be read"))
    rows = [known("a"), known("b/1"), known("b/2"), known("c")]
    assert await merged([file("a"), unlisted, file("c")], rows) == [("a", "a"), ("b/", None), ("c", "c")]


@pytest.mark.parametrize(
    ("seen", "recorded", "unchanged"),
    [
        (file(), known(), True),
        (file(time=2), known(), False),
        (file(size=2), known(), False),
        (file(ctime=0), known(ctime=0), False),
        (file(), known(sha256=None), False),
        (file(), known(image_id=None), False),
        (file(), known(image_id=None, removed=True), True),
        (file(), known(image_id=None, reason="corrupt"), True),
        (file(), known(image_id=None, reason="unreadable"), False),
    ],
    ids=["same", "times", "size", "fresh", "overwrite interrupted", "lost", "deleted", "corrupt", "unreadable"],
)
def test_a_file_is_unchanged_only_if_that_is_certain(seen: LocalFile, recorded: KnownFile, unchanged: bool) -> None:
    assert is_unchanged(seen, recorded) is unchanged
