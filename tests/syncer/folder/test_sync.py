"""Syncs of a folder that changes: nothing is lost, and nothing is done twice."""

import asyncio
import os
import time
from pathlib import Path
from typing import Any

import pytest

from shared.errors import StoreError
from tests.helpers.synced_folder import DELETE_ANY, World, bitmap, sha256


async def test_the_same_content_twice_is_two_rows_and_one_computation(world: World) -> None:
    world.write("a.bmp", 1)
    await world.sync()
    world.write("b.bmp", 1)
    world.write("sub/c.bmp", 1)
    await world.sync()
    await world.check(world.contents())
    assert len({row.id for row in (await world.rows()).values()}) == 3
    assert world.paid.total() == 1


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


async def test_files_with_odd_times_are_indexed(world: World) -> None:
    for number, year in enumerate([1900, 2038, 2299, 2400]):
        os.utime(world.write(f"{year}.bmp", number), ((year - 1970) * 31_556_952,) * 2)
    assert await world.sync() == {"uploaded": 4}
    assert await world.sync() == {"unchanged": 4}
    await world.check(world.contents())


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


async def test_any_name_works_or_is_rejected_with_a_reason(world: World) -> None:
    deep = "/".join(["d" * 200] * 4)
    names = [
        *("with space.bmp", 'it\'s "quoted".bmp', "100% #?&+;=@$.bmp", "back\\slash.bmp", "new\nline.bmp", "-r.bmp"),
        "bell\x07\x1b[31m\r\x9b\ufffe.bmp",
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
