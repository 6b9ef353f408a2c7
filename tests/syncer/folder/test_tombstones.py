"""Content that was deleted through the API is not uploaded again."""

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from shared.object_deletion import delete_images
from syncer.dry_run import Step
from tests.helpers.synced_folder import DELETE_ANY, World, bitmap
from tests.syncer.folder.test_renames import swap


async def delete(world: World, path: str) -> None:
    """Delete the image as the API does."""
    image_id = (await world.rows())[path].id
    assert await delete_images(world.database, world.store, world.collection, [image_id], tombstone=True) == 1


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
