"""Renamed files keep their images."""

from collections.abc import Callable
from pathlib import Path

import pytest

from tests.helpers.synced_folder import DELETE_ANY, World, bitmap, sha256


def rename(old: str, new: str) -> Callable[[Path], object]:
    return lambda folder: (folder / old).rename(folder / new)


def swap(folder: Path, a: str, b: str) -> None:
    (folder / a).rename(folder / "swap")
    (folder / b).rename(folder / a)
    (folder / "swap").rename(folder / b)


def swapped(folder: Path) -> None:
    swap(folder, "a.bmp", "b.bmp")


def chain(folder: Path) -> None:
    (folder / "b.bmp").rename(folder / "c.bmp")
    (folder / "a.bmp").rename(folder / "b.bmp")


def numbered_up(folder: Path) -> None:
    for number in range(9, 0, -1):
        (folder / f"n{number}.bmp").rename(folder / f"n{number + 1}.bmp")


def backed_up_and_edited(folder: Path) -> None:
    (folder / "a.bmp").rename(folder / "a_original.bmp")
    (folder / "a.bmp").write_bytes(bitmap(100))


def backed_up_over_another(folder: Path) -> None:
    (folder / "a.bmp").rename(folder / "b.bmp")
    (folder / "a.bmp").write_bytes(bitmap(100))


def rotated(folder: Path) -> None:
    swap(folder, "a.bmp", "b.bmp")
    swap(folder, "a.bmp", "sub/d.bmp")


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


async def test_an_image_is_deleted_if_an_object_of_others_has_the_new_key(world: World) -> None:
    world.write("a.bmp", 1)
    world.write("b.bmp", 2)
    await world.sync()
    foreign = bitmap(3)
    await world.store.put("z.bmp", foreign, content_type="image/bmp", cache_control="", sha256=sha256(foreign).hex())
    (world.folder / "a.bmp").rename(world.folder / "z.bmp")
    counts = await world.sync(deletion=DELETE_ANY)
    assert (counts["failed"], counts["deleted"]) == (1, 1)
    await world.check({"b.bmp": bitmap(2)}, foreign={"z.bmp": foreign})


async def test_a_rename_replaces_an_image_that_could_not_move_away(world: World) -> None:
    world.write("a.bmp", 1)
    world.write("c.bmp", 2)
    await world.sync()
    before = await world.rows()
    foreign = bitmap(3)
    await world.store.put("b.bmp", foreign, content_type="image/bmp", cache_control="", sha256=sha256(foreign).hex())
    (world.folder / "a.bmp").rename(world.folder / "b.bmp")
    (world.folder / "c.bmp").rename(world.folder / "a.bmp")
    world.store.clear()
    await world.sync(deletion=DELETE_ANY)
    assert world.store.uploads() == []
    assert (await world.rows())["a.bmp"].id == before["c.bmp"].id
