"""What a sync decides to do."""

from collections.abc import AsyncIterator, Iterable
from pathlib import Path
from typing import TypeVar

from shared.errors import ImageRefused, Reason
from shared.models import KnownFile
from syncer.folder.planner import Action, Gone, Keep, Report, Upload, plan
from syncer.folder.scan import LocalFile, Unlisted

T = TypeVar("T")


def file(path: str, *, size: int = 1, time: int = 1) -> LocalFile:
    return LocalFile(path, Path("/photos"), size, time, time)


def known(path: str, *, size: int = 1, time: int = 1, image_id: int | None = 1, reason: str | None = None) -> KnownFile:
    return KnownFile(path, size, time, time, b"sha", image_id, False, reason)


async def stream(items: Iterable[T]) -> AsyncIterator[T]:
    for item in items:
        yield item


async def planned(files: list[LocalFile | Unlisted], rows: list[KnownFile]) -> list[Action]:
    return [action async for action in plan(stream(files), stream(rows))]


async def test_new_files_are_uploaded_known_ones_kept_missing_ones_noticed() -> None:
    actions = await planned([file("a"), file("b"), file("d")], [known("b"), known("c")])
    assert [type(action) for action in actions] == [Upload, Keep, Gone, Upload]


async def test_a_file_whose_size_or_times_changed_is_looked_at() -> None:
    assert await planned([file("a", time=2)], [known("a")]) == [Upload(file("a", time=2), known("a"))]
    assert await planned([file("a", size=2)], [known("a")]) == [Upload(file("a", size=2), known("a"))]


async def test_a_file_that_changed_a_moment_ago_is_looked_at_each_time() -> None:
    fresh = LocalFile("a", Path("/photos"), 1, 1, 0)
    seen = KnownFile("a", 1, 1, 0, b"sha", 1, False, None)
    assert await planned([fresh], [seen]) == [Upload(fresh, seen)]


async def test_a_file_that_lost_its_image_is_uploaded_again_and_a_rejected_one_is_not() -> None:
    assert await planned([file("a")], [known("a", image_id=None)]) == [Upload(file("a"), known("a", image_id=None))]
    rejected = known("a", image_id=None, reason="corrupt")
    assert await planned([file("a")], [rejected]) == [Keep(rejected)]


async def test_what_lies_in_a_folder_that_cannot_be_listed_is_not_gone() -> None:
    unlisted = Unlisted("b/", ImageRefused(Reason.UNREADABLE, "it cannot be read"))
    rows = [known("a"), known("b/1"), known("b/2"), known("c")]
    actions = await planned([file("a"), unlisted, file("c")], rows)
    assert [type(action) for action in actions] == [Keep, Report, Keep]
