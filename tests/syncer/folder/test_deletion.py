"""Deletion of images whose files are missing."""

from pathlib import Path

from tests.helpers.synced_folder import DELETE, DELETE_ANY, World


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
    await world.sync(follow_links=True)
    contents = await world.objects()
    disk.rename(tmp_path / "away")
    await world.sync(deletion=DELETE, follow_links=True)
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
