"""What a sync makes of a folder that changed: images keep their rows and vectors, and nothing is done twice."""

import asyncio
import os
import time
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack
from pathlib import Path

import pytest
import pytest_asyncio

from shared.db.pool import Database
from shared.removal import remove
from shared.stores.folder import FolderStore
from syncer.preview import Step
from tests.syncer.folders import DELETE, DELETE_ANY, World, picture


@pytest_asyncio.fixture
async def world(tmp_path: Path, database: Database) -> AsyncIterator[World]:
    async with AsyncExitStack() as stack:
        yield await World.make(stack, tmp_path / "folder", database, FolderStore(tmp_path / "buckets", "b"))


def swap(folder: Path, a: str, b: str) -> None:
    (folder / a).rename(folder / "swap")
    (folder / b).rename(folder / a)
    (folder / "swap").rename(folder / b)


def chain(folder: Path) -> None:
    (folder / "b.png").rename(folder / "c.png")
    (folder / "a.png").rename(folder / "b.png")


def backed_up_and_edited(folder: Path) -> None:
    (folder / "a.png").rename(folder / "a_original.png")
    (folder / "a.png").write_bytes(picture(100))


def backed_up_over_another(folder: Path) -> None:
    (folder / "a.png").rename(folder / "b.png")
    (folder / "a.png").write_bytes(picture(100))


def rotated(folder: Path) -> None:
    swap(folder, "a.png", "b.png")
    swap(folder, "a.png", "sub/d.png")


def folder_renamed(folder: Path) -> None:
    (folder / "sub").rename(folder / "Sub")


MOVES: list[tuple[Callable[[Path], object], int]] = [
    (lambda folder: (folder / "a.png").rename(folder / "z.png"), 0),
    (lambda folder: (folder / "a.png").rename(folder / "A.png"), 0),
    (lambda folder: (folder / "a.png").rename(folder / "sub" / "0.png"), 0),
    (lambda folder: (folder / "sub" / "d.png").rename(folder / "0.png"), 0),
    (lambda folder: (folder / "a.png").rename(folder / "b.png"), 0),
    (lambda folder: (folder / "b.png").rename(folder / "a.png"), 0),
    (lambda folder: swap(folder, "a.png", "b.png"), 0),
    (folder_renamed, 0),
    (chain, 0),
    (rotated, 0),
    (backed_up_and_edited, 1),
    (backed_up_over_another, 1),
]


@pytest.mark.parametrize(("move", "new"), MOVES)
async def test_a_file_keeps_its_row_and_vector_under_another_name(
    world: World, move: Callable[[Path], object], new: int
) -> None:
    for number, path in enumerate(["a.png", "b.png", "sub/d.png", "sub/e.png"]):
        world.write(path, number)
    await world.sync()
    before = {row.sha256: row for row in (await world.rows()).values()}
    world.store.clear()
    move(world.folder)
    await world.sync()
    await world.check(world.contents())
    for row in (await world.rows()).values():
        assert before.get(row.sha256, row) == row
    assert len(world.store.uploads()) == new
    assert sum(world.paid.values()) == 4 + new


async def test_the_same_content_twice_is_two_rows_and_one_computation(world: World) -> None:
    world.write("a.png", 1)
    await world.sync()
    world.write("b.png", 1)
    world.write("sub/c.png", 1)
    await world.sync()
    await world.check(world.contents())
    assert len({row.id for row in (await world.rows()).values()}) == 3
    assert world.paid.total() == 1


async def test_an_image_whose_file_was_gone_for_a_while_is_met_again_under_another_name(
    world: World, tmp_path: Path
) -> None:
    a = world.write("a.png", 1)
    world.write("b.png", 2)
    await world.sync()
    before = (await world.rows())["a.png"]
    a.rename(tmp_path / "elsewhere.png")
    await world.sync()
    assert set(await world.rows()) == {"a.png", "b.png"}, "what is gone stays without --delete"
    (tmp_path / "elsewhere.png").rename(world.folder / "c.png")
    assert (await world.sync())["moved"] == 1
    assert (await world.rows())["c.png"] == before
    await world.check(world.contents())


async def test_a_touched_file_is_not_uploaded_and_one_edited_in_secret_is(world: World) -> None:
    a = world.write("a.png", 1)
    b = world.write("b.png", 2)
    await world.sync()
    time.sleep(0.03)
    (await world.sync())  # by now the files' times can be trusted
    world.store.clear()
    a.touch()
    assert (await world.sync())["unchanged"] == 2
    before = b.stat()
    edited = bytearray(b.read_bytes())
    edited[-1] ^= 1  # within the checksum of the last chunk, which no decoder minds
    b.write_bytes(edited)
    os.utime(b, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert (await world.sync())["uploaded"] == 1
    assert world.store.uploads() == ["b.png"]
    await world.check(world.contents())


async def test_delete_removes_what_is_gone_with_its_object(world: World) -> None:
    files = [world.write(f"{number}.png", number) for number in range(20)]
    await world.sync()
    files[3].unlink()
    files[7].rename(world.folder / "moved.png")
    counts = await world.sync(deletion=DELETE)
    assert (counts["deleted"], counts["moved"], world.withheld) == (1, 1, "")
    await world.check(world.contents())


async def test_more_than_a_tenth_is_not_deleted_without_yes(world: World) -> None:
    files = [world.write(f"{number}.png", number) for number in range(5)]
    await world.sync()
    files[0].unlink()
    before = await world.rows()
    await world.sync(deletion=DELETE)
    assert "1 of 5" in world.withheld
    assert await world.rows() == before
    await world.sync(deletion=DELETE_ANY)
    await world.check(world.contents())


async def test_an_empty_folder_is_a_disk_that_is_not_mounted(world: World) -> None:
    files = [world.write(f"{number}.png", number) for number in range(3)]
    contents = world.contents()
    await world.sync()
    for file in files:
        file.unlink()
    await world.sync(deletion=DELETE_ANY)
    assert "mounted" in world.withheld
    await world.check(contents)


async def test_what_lies_below_an_empty_folder_goes_only_with_yes_and_below_none_at_once(world: World) -> None:
    for number in range(30):
        world.write(f"{number}.png", number)
    world.write("disk/a.png", 100)
    world.write("trip/b.png", 101)
    contents = world.contents()
    await world.sync()
    (world.folder / "disk/a.png").unlink()
    (world.folder / "trip/b.png").unlink()
    (world.folder / "trip").rmdir()
    await world.sync(deletion=DELETE)
    assert "'disk'" in world.withheld
    del contents["trip/b.png"]
    await world.check(contents)
    await world.sync(deletion=DELETE_ANY)
    await world.check(world.contents())


async def test_nothing_is_deleted_when_something_could_not_be_looked_at(world: World) -> None:
    files = [world.write(f"{number}.png", number) for number in range(3)]
    world.write("sub/a.png", 9)
    contents = world.contents()
    await world.sync()
    files[0].unlink()
    (world.folder / "sub").rename(world.folder / "aside")
    (world.folder / "sub").symlink_to(world.folder / "sub")  # a circle, which nobody can list
    (world.folder / "broken.png").symlink_to(world.folder / "nowhere")
    (world.folder / "aside").rename(world.folder.parent / "aside")
    await world.sync(deletion=DELETE_ANY)
    assert "looked at" in world.withheld
    await world.check(contents)


async def test_what_other_ways_brought_is_not_deleted(world: World, tmp_path: Path) -> None:
    world.write("a.png", 1)
    shared = world.write("shared.png", 2)
    keep = world.write("keep.png", 3)
    await world.sync()
    other = tmp_path / "other"
    other.mkdir()
    (other / "shared.png").write_bytes(shared.read_bytes())
    await world.sync(source="other", folder=other)
    contents = world.contents()
    shared.unlink()
    await world.sync(deletion=DELETE_ANY)
    await world.check(contents)
    (other / "shared.png").rename(other / "renamed.png")
    keep.rename(world.folder / "kept.png")
    await world.sync(source="other", folder=other)
    await world.sync(deletion=DELETE_ANY)
    assert set(await world.rows()) == {"a.png", "kept.png", "renamed.png"}
    assert world.paid.total() == 3


@pytest.mark.parametrize("renamed", [False, True])
async def test_what_was_removed_through_the_api_does_not_come_back(world: World, renamed: bool) -> None:
    a = world.write("a.png", 1)
    world.write("b.png", 2)
    await world.sync()
    removed = (await world.rows())["a.png"].id
    assert await remove(world.database, world.store, world.collection, [removed], tombstone=True) == 1
    if renamed:
        a = a.rename(world.folder / "c.png")
    else:
        a.touch()
    for _ in range(2):
        await world.sync(deletion=DELETE_ANY)
        await world.check({"b.png": picture(2)})
    a.write_bytes(picture(3))
    await world.sync()
    await world.check(world.contents())


async def test_a_removed_image_stays_away_also_when_its_file_was_not_readable_for_a_while(world: World) -> None:
    a = world.write("a.png", 1)
    world.write("b.png", 2)
    await world.sync()
    await remove(world.database, world.store, world.collection, [(await world.rows())["a.png"].id], tombstone=True)
    a.write_bytes(b"no image")
    await world.sync()
    a.write_bytes(picture(1))
    await world.sync()
    await world.check({"b.png": picture(2)})


async def test_what_is_excluded_now_stays_though_it_is_gone(world: World) -> None:
    world.write("a.png", 1)
    raw = world.write("raw/b.png", 2)
    contents = world.contents()
    await world.sync()
    await world.sync(deletion=DELETE_ANY, exclude=["raw/"])
    raw.unlink()
    await world.sync(deletion=DELETE_ANY, exclude=["raw/"])
    assert world.withheld == ""
    await world.check(contents)


async def test_a_rejected_file_that_is_gone_is_forgotten(world: World) -> None:
    world.write("a.png", 1)
    (world.folder / "bad.png").write_bytes(b"no image")
    assert (await world.sync())["failed"] == 1
    assert (await world.sync())["failed"] == 1
    (world.folder / "bad.png").unlink()
    assert (await world.sync())["failed"] == 0
    await world.check(world.contents())


async def test_paths_alone_are_brought_over_and_nothing_else_is_taken_for_gone(world: World) -> None:
    for number, path in enumerate(["a.png", "b.png", "sub/c.png", "sub/d.png", "e.png"]):
        world.write(path, number)
    await world.sync()
    (world.folder / "a.png").unlink()
    (world.folder / "sub/c.png").unlink()
    world.write("sub/new.png", 7)
    (world.folder / "b.png").rename(world.folder / "sub/b.png")
    world.write("e.png", 8)
    await world.sync(["sub"], deletion=DELETE_ANY)
    assert set(await world.rows()) == {"a.png", "sub/b.png", "sub/d.png", "sub/new.png", "e.png"}
    assert world.paid.total() == 6
    await world.sync(["e.png", "a.png"], deletion=DELETE_ANY)
    await world.check(world.contents())


async def test_two_runs_at_once_do_nothing_twice(world: World) -> None:
    for number in range(30):
        world.write(f"{number}.png", number)
    first, second, third = (world.uploader() for _ in range(3))
    assert sorted(await asyncio.gather(first.run(), second.run(), third.run())) == [False, True, True]
    assert len(world.store.uploads()) == 30
    await world.embed()
    await world.check(world.contents())
    assert world.paid.total() == 30


async def test_the_name_of_a_file_may_become_that_of_a_folder(world: World) -> None:
    file = world.write("a.png", 1)
    world.write("b.png", 2)
    await world.sync()
    file.rename(world.folder / "aside")
    file.mkdir()
    (world.folder / "aside").rename(file / "a.png")
    await world.sync()
    await world.check(world.contents())
    assert world.paid.total() == 2


async def test_a_dry_run_says_what_a_run_does(world: World) -> None:
    for number in range(30):
        world.write(f"{number}.png", number)
    for number, path in enumerate(["a.png", "b.png", "c.png", "d.png"], 100):
        world.write(path, number)
    assert {step.kind for step in await world.preview()} == {"new"}
    await world.sync()
    assert await world.preview() == []
    (world.folder / "a.png").rename(world.folder / "z.png")
    swap(world.folder, "b.png", "c.png")
    world.write("d.png", 200)
    world.write("e.png", 201)
    (world.folder / "0.png").unlink()
    (world.folder / "broken.png").symlink_to(world.folder / "nowhere")
    before = (await world.rows(), await world.objects())
    steps = await world.preview()
    assert [step for step in steps if step.kind != "unreadable"] == [
        Step("new", "e.png"),
        Step("moved", "z.png", "a.png"),
        Step("moved", "b.png", "c.png"),
        Step("moved", "c.png", "b.png"),
        Step("edited", "d.png"),
        Step("gone", "0.png"),
    ]
    (world.folder / "broken.png").unlink()
    assert Step("deleted", "0.png") in await world.preview(deletion=DELETE)
    (world.folder / "1.png").unlink()
    (world.folder / "2.png").unlink()
    (world.folder / "3.png").unlink()
    assert Step("gone", "0.png") in await world.preview(deletion=DELETE)
    assert "4 of 34" in world.withheld
    assert before == (await world.rows(), await world.objects())
