"""Syncs of a folder that changes: images keep their rows and vectors, and nothing is done twice."""

import asyncio
import os
import shutil
import time
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from shared.db.pool import Database
from shared.errors import StoreError
from shared.object_deletion import delete_images
from shared.stores.folder import FolderStore
from syncer.dry_run import Step
from tests.helpers.synced_folder import DELETE, DELETE_ANY, World, bitmap, sha256


@pytest_asyncio.fixture
async def world(tmp_path: Path, database: Database) -> AsyncIterator[World]:
    async with AsyncExitStack() as stack:
        yield await World.make(stack, tmp_path / "folder", database, FolderStore(tmp_path / "buckets", "b"))


def swap(folder: Path, a: str, b: str) -> None:
    (folder / a).rename(folder / "swap")
    (folder / b).rename(folder / a)
    (folder / "swap").rename(folder / b)


def swapped(folder: Path) -> None:
    swap(folder, "a.bmp", "b.bmp")


def chain(folder: Path) -> None:
    (folder / "b.bmp").rename(folder / "c.bmp")
    (folder / "a.bmp").rename(folder / "b.bmp")


def backed_up_and_edited(folder: Path) -> None:
    (folder / "a.bmp").rename(folder / "a_original.bmp")
    (folder / "a.bmp").write_bytes(bitmap(100))


def backed_up_over_another(folder: Path) -> None:
    (folder / "a.bmp").rename(folder / "b.bmp")
    (folder / "a.bmp").write_bytes(bitmap(100))


def rotated(folder: Path) -> None:
    swap(folder, "a.bmp", "b.bmp")
    swap(folder, "a.bmp", "sub/d.bmp")


def numbered_up(folder: Path) -> None:
    for number in range(9, 0, -1):
        (folder / f"n{number}.bmp").rename(folder / f"n{number + 1}.bmp")


def rename(old: str, new: str) -> Callable[[Path], object]:
    return lambda folder: (folder / old).rename(folder / new)


@pytest.mark.parametrize(
    ("change", "uploads"),
    [
        (rename("a.bmp", "z.bmp"), 0),
        (rename("a.bmp", "A.bmp"), 0),
        (rename("a.bmp", "sub/0.bmp"), 0),
        (rename("sub/d.bmp", "0.bmp"), 0),
        (rename("a.bmp", "b.bmp"), 0),
        (rename("b.bmp", "a.bmp"), 0),
        (rename("sub", "Sub"), 0),
        (chain, 0),
        (numbered_up, 0),
        (backed_up_and_edited, 1),
    ],
)
async def test_a_renamed_file_keeps_its_row_and_vector(
    world: World, change: Callable[[Path], object], uploads: int
) -> None:
    paths = ["a.bmp", "b.bmp", "sub/d.bmp", "sub/e.bmp", *(f"n{number}.bmp" for number in range(1, 10))]
    for number, path in enumerate(paths):
        world.write(path, number)
    await world.sync()
    before = {row.sha256: row for row in (await world.rows()).values()}
    world.store.clear()
    change(world.folder)
    await world.sync()
    await world.check(world.contents())
    for row in (await world.rows()).values():
        assert before.get(row.sha256, row) == row
    assert len(world.store.uploads()) == uploads
    assert world.paid.total() == len(paths) + uploads


@pytest.mark.parametrize(("change", "uploads"), [(swapped, 2), (rotated, 3), (backed_up_over_another, 2)])
async def test_files_that_swapped_names_are_uploaded_again(
    world: World, change: Callable[[Path], object], uploads: int
) -> None:
    for number, path in enumerate(["a.bmp", "b.bmp", "sub/d.bmp", "sub/e.bmp"]):
        world.write(path, number)
    await world.sync()
    world.store.clear()
    change(world.folder)
    await world.sync()
    await world.check(world.contents())
    assert len(world.store.uploads()) == uploads


async def test_the_same_content_twice_is_two_rows_and_one_computation(world: World) -> None:
    world.write("a.bmp", 1)
    await world.sync()
    world.write("b.bmp", 1)
    world.write("sub/c.bmp", 1)
    await world.sync()
    await world.check(world.contents())
    assert len({row.id for row in (await world.rows()).values()}) == 3
    assert world.paid.total() == 1


async def test_a_file_that_returns_under_another_name_gets_its_image_back(world: World, tmp_path: Path) -> None:
    a = world.write("a.bmp", 1)
    world.write("b.bmp", 2)
    await world.sync()
    before = (await world.rows())["a.bmp"]
    a.rename(tmp_path / "elsewhere.bmp")
    await world.sync()
    assert set(await world.rows()) == {"a.bmp", "b.bmp"}, "images of missing files stay without --delete"
    (tmp_path / "elsewhere.bmp").rename(world.folder / "c.bmp")
    assert (await world.sync())["moved"] == 1
    assert (await world.rows())["c.bmp"] == before
    await world.check(world.contents())


async def test_a_touched_file_is_not_uploaded_and_an_edited_one_with_old_times_is(world: World) -> None:
    a = world.write("a.bmp", 1)
    b = world.write("b.bmp", 2)
    await world.sync()
    time.sleep(0.03)
    await world.sync()  # by now the times of the files can be trusted
    world.store.clear()
    a.touch()
    assert (await world.sync())["unchanged"] == 2
    before = b.stat()
    b.write_bytes(bitmap(3))
    os.utime(b, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert (await world.sync())["uploaded"] == 1
    assert world.store.uploads() == ["b.bmp"]
    await world.check(world.contents())


async def test_images_of_missing_files_are_deleted_with_their_objects(world: World) -> None:
    files = [world.write(f"{number}.bmp", number) for number in range(20)]
    await world.sync()
    files[3].unlink()
    files[7].rename(world.folder / "moved.bmp")
    counts = await world.sync(deletion=DELETE)
    assert (counts["deleted"], counts["moved"], world.withheld) == (1, 1, "")
    await world.check(world.contents())


async def test_more_than_a_tenth_is_deleted_only_with_yes(world: World) -> None:
    files = [world.write(f"{number}.bmp", number) for number in range(5)]
    await world.sync()
    files[0].unlink()
    before = await world.rows()
    await world.sync(deletion=DELETE)
    assert "1 of 5" in world.withheld
    assert await world.rows() == before
    await world.sync(deletion=DELETE_ANY)
    await world.check(world.contents())


async def test_nothing_is_deleted_when_the_folder_is_empty(world: World) -> None:
    files = [world.write(f"{number}.bmp", number) for number in range(3)]
    contents = world.contents()
    await world.sync()
    for file in files:
        file.unlink()
    await world.sync(deletion=DELETE_ANY)
    assert "mounted" in world.withheld
    await world.check(contents)


async def test_images_below_an_emptied_folder_are_deleted_only_with_yes(world: World) -> None:
    for number in range(30):
        world.write(f"{number}.bmp", number)
    world.write("disk/a.bmp", 100)
    world.write("trip/b.bmp", 101)
    contents = world.contents()
    await world.sync()
    (world.folder / "disk/a.bmp").unlink()
    (world.folder / "trip/b.bmp").unlink()
    (world.folder / "trip").rmdir()
    await world.sync(deletion=DELETE)
    assert "'disk'" in world.withheld
    del contents["trip/b.bmp"]
    await world.check(contents)
    await world.sync(deletion=DELETE_ANY)
    await world.check(world.contents())


async def test_images_below_a_broken_link_are_not_deleted(world: World, tmp_path: Path) -> None:
    disk = tmp_path / "disk"
    disk.mkdir()
    (world.folder / "linked").symlink_to(disk)
    world.write("linked/a.bmp", 1)
    for number in range(20):
        world.write(f"{number}.bmp", 10 + number)
    await world.sync()
    contents = await world.objects()
    disk.rename(tmp_path / "away")
    await world.sync(deletion=DELETE)
    assert "'linked'" in world.withheld
    await world.check(contents)


async def test_nothing_is_deleted_when_some_files_could_not_be_read(world: World) -> None:
    files = [world.write(f"{number}.bmp", number) for number in range(3)]
    world.write("sub/a.bmp", 9)
    contents = world.contents()
    await world.sync()
    files[0].unlink()
    (world.folder / "sub").rename(world.folder / "aside")
    (world.folder / "sub").symlink_to(world.folder / "sub")  # a circle, which cannot be listed
    (world.folder / "broken.bmp").symlink_to(world.folder / "nowhere")
    (world.folder / "aside").rename(world.folder.parent / "aside")
    await world.sync(deletion=DELETE_ANY)
    assert "could not be read" in world.withheld
    await world.check(contents)


async def test_an_image_that_another_folder_has_is_not_deleted(world: World, tmp_path: Path) -> None:
    world.write("a.bmp", 1)
    shared = world.write("shared.bmp", 2)
    keep = world.write("keep.bmp", 3)
    await world.sync()
    other = tmp_path / "other"
    other.mkdir()
    (other / "shared.bmp").write_bytes(shared.read_bytes())
    await world.sync(source="other", folder=other)
    contents = world.contents()
    shared.unlink()
    await world.sync(deletion=DELETE_ANY)
    await world.check(contents)
    (other / "shared.bmp").rename(other / "renamed.bmp")
    keep.rename(world.folder / "kept.bmp")
    await world.sync(source="other", folder=other)
    await world.sync(deletion=DELETE_ANY)
    assert set(await world.rows()) == {"a.bmp", "kept.bmp", "renamed.bmp"}
    assert world.paid.total() == 3


@pytest.mark.parametrize("renamed", ["", "c.bmp", "b.bmp"])
async def test_an_image_deleted_through_the_api_does_not_come_back(world: World, renamed: str) -> None:
    a = world.write("a.bmp", 1)
    world.write("b.bmp", 2)
    await world.sync()
    await delete(world, "a.bmp")
    expected = {"b.bmp": bitmap(2)}
    if renamed == "b.bmp":
        swap(world.folder, "a.bmp", "b.bmp")
        a, expected = world.folder / "b.bmp", {"a.bmp": bitmap(2)}
    elif renamed:
        a = a.rename(world.folder / "c.bmp")
    else:
        a.touch()
    for _ in range(2):
        await world.sync(deletion=DELETE_ANY)
        await world.check(expected)
    a.write_bytes(bitmap(3))
    await world.sync()
    await world.check(world.contents())


async def delete(world: World, path: str) -> None:
    """Delete the image as the API does."""
    image_id = (await world.rows())[path].id
    assert await delete_images(world.database, world.store, world.collection, [image_id], tombstone=True) == 1


async def test_deleted_content_gets_no_new_image_under_any_name_and_its_other_image_stays(world: World) -> None:
    a = world.write("a.bmp", 1)
    twin = world.write("twin.bmp", 1)
    world.write("b.bmp", 2)
    await world.sync()
    await delete(world, "a.bmp")
    a = a.rename(world.folder / "c.bmp")
    world.write("copy.bmp", 1)
    assert await world.dry_run() == [Step("gone", "a.bmp")]
    expected = {"twin.bmp": bitmap(1), "b.bmp": bitmap(2)}
    for _ in range(2):
        await world.sync(deletion=DELETE_ANY)
        await world.check(expected)
    twin.rename(world.folder / "d.bmp")
    for _ in range(2):
        await world.sync(deletion=DELETE_ANY)
        await world.check({"d.bmp": bitmap(1), "b.bmp": bitmap(2)})
    a.write_bytes(bitmap(3))
    await world.sync()
    await world.check({"d.bmp": bitmap(1), "b.bmp": bitmap(2), "c.bmp": bitmap(3)})


async def test_deleted_content_is_uploaded_again_after_the_folder_did_not_hold_it(world: World) -> None:
    a = world.write("a.bmp", 1)
    world.write("b.bmp", 2)
    await world.sync()
    await delete(world, "a.bmp")
    a.unlink()
    await world.sync(deletion=DELETE_ANY)
    world.write("c.bmp", 1)
    await world.sync()
    await world.check(world.contents())


async def test_a_deleted_image_does_not_come_back_after_its_file_was_corrupt(world: World) -> None:
    a = world.write("a.bmp", 1)
    world.write("b.bmp", 2)
    await world.sync()
    await delete(world, "a.bmp")
    a.write_bytes(b"no image")
    await world.sync()
    a.write_bytes(bitmap(1))
    await world.sync()
    await world.check({"b.bmp": bitmap(2)})


async def test_a_deleted_image_does_not_come_back_when_its_old_name_is_synced_first(world: World) -> None:
    a = world.write("a.bmp", 1)
    world.write("b.bmp", 2)
    await world.sync()
    await delete(world, "a.bmp")
    a.rename(world.folder / "renamed.bmp")
    world.write("a.bmp", 3)
    await world.sync(["a.bmp"])
    for _ in range(2):
        await world.sync(deletion=DELETE_ANY)
        await world.check({"a.bmp": bitmap(3), "b.bmp": bitmap(2)})


@pytest.mark.parametrize(("change", "when"), [(shutil.move, "copy"), (shutil.copy, "put")])
async def test_an_image_deleted_while_it_is_moved_or_copied_does_not_come_back(
    world: World, monkeypatch: pytest.MonkeyPatch, change: Callable[[Path, Path], object], when: str
) -> None:
    a = world.write("a.bmp", 1)
    world.write("b.bmp", 2)
    await world.sync()
    change(a, world.folder / "c.bmp")
    original = getattr(world.store, when)

    async def after_deletion(*arguments: Any, **more: Any) -> None:
        if "a.bmp" in await world.rows():
            await delete(world, "a.bmp")
        await original(*arguments, **more)

    with monkeypatch.context() as patched:
        patched.setattr(world.store, when, after_deletion)
        await world.sync(deletion=DELETE_ANY)
    for _ in range(2):
        await world.check({"b.bmp": bitmap(2)})
        await world.sync(deletion=DELETE_ANY)


async def test_an_object_is_restored_after_an_interrupted_overwrite(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    a = world.write("a.bmp", 1)
    world.write("b.bmp", 2)
    contents = world.contents()
    await world.sync()
    world.write("a.bmp", 3)
    put = world.store.put

    async def cut_off(key: str, body: bytes | Path, **more: Any) -> None:
        await put(key, body, **more)
        raise StoreError("cut off", transient=False)

    with monkeypatch.context() as patched:
        patched.setattr(world.store, "put", cut_off)
        with pytest.raises(ExceptionGroup):
            await world.sync()
    assert (await world.objects())["a.bmp"] == bitmap(3)
    await world.sync(["b.bmp"])
    a.write_bytes(bitmap(1))
    await world.sync()
    await world.check(contents)


async def test_images_of_excluded_files_are_not_deleted(world: World) -> None:
    world.write("a.bmp", 1)
    raw = world.write("raw/b.bmp", 2)
    contents = world.contents()
    await world.sync()
    await world.sync(deletion=DELETE_ANY, exclude=["raw/"])
    raw.unlink()
    await world.sync(deletion=DELETE_ANY, exclude=["raw/"])
    assert world.withheld == ""
    await world.check(contents)


async def test_a_rejected_file_that_is_missing_is_forgotten(world: World) -> None:
    world.write("a.bmp", 1)
    (world.folder / "bad.bmp").write_bytes(b"no image")
    assert (await world.sync())["failed"] == 1
    assert (await world.sync())["failed"] == 1
    (world.folder / "bad.bmp").unlink()
    assert (await world.sync())["failed"] == 0
    await world.check(world.contents())


async def test_a_sync_of_some_paths_leaves_all_others_alone(world: World) -> None:
    for number, path in enumerate(["a.bmp", "b.bmp", "sub/c.bmp", "sub/d.bmp", "e.bmp"]):
        world.write(path, number)
    await world.sync()
    (world.folder / "a.bmp").unlink()
    (world.folder / "sub/c.bmp").unlink()
    world.write("sub/new.bmp", 7)
    (world.folder / "b.bmp").rename(world.folder / "sub/b.bmp")
    world.write("e.bmp", 8)
    await world.sync(["sub"], deletion=DELETE_ANY)
    assert set(await world.rows()) == {"a.bmp", "sub/b.bmp", "sub/d.bmp", "sub/new.bmp", "e.bmp"}
    assert world.paid.total() == 6
    await world.sync(["e.bmp", "a.bmp"], deletion=DELETE_ANY)
    await world.check(world.contents())


async def test_concurrent_syncs_upload_each_file_once(world: World) -> None:
    for number in range(30):
        world.write(f"{number}.bmp", number)
    first, second, third = (world.folder_sync() for _ in range(3))
    assert sorted(await asyncio.gather(first.run(), second.run(), third.run())) == [False, True, True]
    assert len(world.store.uploads()) == 30
    await world.embed()
    await world.check(world.contents())
    assert world.paid.total() == 30


async def test_a_folder_may_take_the_name_of_a_file(world: World) -> None:
    file = world.write("a.bmp", 1)
    world.write("b.bmp", 2)
    await world.sync()
    file.rename(world.folder / "aside")
    file.mkdir()
    (world.folder / "aside").rename(file / "a.bmp")
    await world.sync()
    await world.check(world.contents())
    assert world.paid.total() == 3, "one vector was computed again"


async def test_any_name_works_or_is_rejected_with_a_reason(world: World) -> None:
    deep = "/".join(["d" * 200] * 4)
    names = [
        *("with space.bmp", 'it\'s "quoted".bmp', "100% #?&+;=@$.bmp", "back\\slash.bmp", "new\nline.bmp", "-r.bmp"),
        *("\u4e2d\u6587/\u65e5\u672c.bmp", "\u0639\u0631\u0628\u064a.bmp", "\U0001f984\U0001f3fd.bmp", "UPPER.BMP"),
        *("caf\u00e9.bmp", "cafe\u0301.bmp", "case.bmp", "Case.bmp", f"{deep}/fits.bmp"),
    ]
    for number, name in enumerate(names):
        world.write(name, number)
    too_long = [f"{deep}/{'e' * 200}/{'f' * 100}.bmp", "/".join(["\u00fc" * 100] * 15) + "/g.bmp"]
    for number, name in enumerate(too_long):
        directory = os.open(world.folder, os.O_RDONLY)
        for part in name.split("/")[:-1]:
            Path(f"/proc/self/fd/{directory}", part).mkdir(exist_ok=True)
            directory = os.open(part, os.O_RDONLY, dir_fd=directory)
        Path(f"/proc/self/fd/{directory}", name.split("/")[-1]).write_bytes(bitmap(100 + number))
    for _ in range(2):
        assert (await world.sync())["failed"] == len(too_long)
        rows = await world.rows()
        assert {key: row.sha256 for key, row in rows.items()} == {
            name: sha256(bitmap(number)) for number, name in enumerate(names)
        }
    assert world.paid.total() == len(names)


async def test_a_file_that_changes_during_the_upload_is_rejected_until_the_next_sync(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    a, b = world.write("a.bmp", 1), world.write("b.bmp", 2)
    original = world.store.put

    async def put(key: str, body: Path, **more: object) -> None:
        if key == "a.bmp":
            a.write_bytes(bitmap(3))
        await original(key, body, **more)

    with monkeypatch.context() as patched:
        patched.setattr(world.store, "put", put)
        assert (await world.sync())["failed"] == 1
    await world.check({"b.bmp": b.read_bytes()})
    assert (await world.sync())["failed"] == 0
    await world.check(world.contents())


async def test_a_dry_run_prints_the_plan_and_changes_nothing(world: World) -> None:
    for number in range(30):
        world.write(f"{number}.bmp", number)
    for number, path in enumerate(["a.bmp", "b.bmp", "c.bmp", "d.bmp"], 100):
        world.write(path, number)
    assert {step.kind for step in await world.dry_run()} == {"new"}
    await world.sync()
    assert await world.dry_run() == []
    (world.folder / "a.bmp").rename(world.folder / "z.bmp")
    swap(world.folder, "b.bmp", "c.bmp")
    world.write("d.bmp", 200)
    world.write("e.bmp", 201)
    (world.folder / "0.bmp").unlink()
    (world.folder / "broken.bmp").symlink_to(world.folder / "nowhere")
    before = (await world.rows(), await world.objects())
    steps = await world.dry_run()
    assert [step for step in steps if step.kind != "unreadable"] == [
        Step("new", "e.bmp"),
        Step("moved", "z.bmp", "a.bmp"),
        Step("edited", "b.bmp"),
        Step("edited", "c.bmp"),
        Step("edited", "d.bmp"),
        Step("gone", "0.bmp"),
    ]
    (world.folder / "broken.bmp").unlink()
    assert Step("deleted", "0.bmp") in await world.dry_run(deletion=DELETE)
    (world.folder / "1.bmp").unlink()
    (world.folder / "2.bmp").unlink()
    (world.folder / "3.bmp").unlink()
    assert Step("gone", "0.bmp") in await world.dry_run(deletion=DELETE)
    assert "4 of 34" in world.withheld
    assert before == (await world.rows(), await world.objects())
