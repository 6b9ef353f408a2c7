"""XMP sidecars: they describe images without new uploads and vectors."""

import os
from pathlib import Path

import pytest

from syncer.folder.ignore import Selection
from syncer.folder.scan import LocalFile, scan
from syncer.folder.sidecars import described_files, find_sidecar
from tests.helpers.synced_folder import DELETE_ANY, World


def write_sidecar(world: World, path: str, title: str) -> Path:
    file = world.folder / path
    file.write_text(
        "<rdf:RDF xmlns:rdf='http://www.w3.org/1999/02/22-rdf-syntax-ns#'>"
        f"<rdf:Description xmlns:dc='http://purl.org/dc/elements/1.1/' dc:title='{title}'/></rdf:RDF>"
    )
    return file


async def titles(world: World) -> dict[str, str | None]:
    return dict(await world.execute(f"SELECT r2_key, title FROM {world.collection.base}_images"))  # type: ignore[arg-type]


@pytest.mark.parametrize("name", ["a.bmp.xmp", "a.xmp", "a.XMP"])
async def test_a_sidecar_that_appears_changes_or_goes_updates_its_image_without_an_upload(
    world: World, name: str
) -> None:
    world.write("a.bmp", 1)
    world.write("b.bmp", 2)
    await world.sync()
    os.utime(world.folder / "a.bmp", (1e9, 1e9))
    before = await world.rows()
    for title in ("first", "second"):
        write_sidecar(world, name, title)
        os.utime(world.folder / name, (1e9, 1e9 + len(title)))
        assert [(step.kind, step.path) for step in await world.dry_run()] == [("described", "a.bmp")]
        assert await world.sync() == {"described": 1, "unchanged": 1}
        assert await titles(world) == {"a.bmp": title, "b.bmp": None}
        assert await world.sync() == {"unchanged": 2}
    (world.folder / name).unlink()
    assert await world.sync() == {"described": 1, "unchanged": 1}
    assert await titles(world) == {"a.bmp": None, "b.bmp": None}
    assert world.store.uploads() == ["a.bmp", "b.bmp"]
    assert await world.rows() == before
    assert world.paid.total() == 2


async def test_a_new_image_is_uploaded_with_its_sidecar(world: World) -> None:
    world.write("sub/a.bmp", 1)
    write_sidecar(world, "sub/a.xmp", "general")
    write_sidecar(world, "sub/a.bmp.xmp", "special")
    assert await world.sync() == {"uploaded": 1}
    assert await titles(world) == {"sub/a.bmp": "special"}
    assert await world.sync() == {"unchanged": 1}


async def test_an_image_that_moves_without_its_sidecar_loses_its_description(world: World) -> None:
    a = world.write("a.bmp", 1)
    sidecar = write_sidecar(world, "a.xmp", "first")
    await world.sync()
    a.rename(world.folder / "b.bmp")
    assert (await world.sync(deletion=DELETE_ANY))["moved"] == 1
    await world.sync()
    assert await titles(world) == {"b.bmp": None}
    sidecar.rename(world.folder / "b.xmp")
    await world.sync()
    assert await titles(world) == {"b.bmp": "first"}
    assert world.paid.total() == 1


@pytest.mark.parametrize("content", [b"", b"no XML", b"<a>", b"<" * (5 << 20), b"\xff\xfe<"])
async def test_a_broken_sidecar_is_ignored(world: World, content: bytes) -> None:
    world.write("a.bmp", 1)
    (world.folder / "a.xmp").write_bytes(content)
    assert await world.sync() == {"uploaded": 1}
    assert await world.sync() == {"unchanged": 1}


def test_only_regular_files_that_are_not_excluded_are_sidecars(tmp_path: Path) -> None:
    (tmp_path / "a.xmp").mkdir()
    os.mkfifo(tmp_path / "b.xmp")
    (tmp_path / "c.xmp").symlink_to("missing")
    for name in ("a.bmp", "b.bmp", "c.bmp", "d.bmp", "d.xmp", "e.bmp", "e.xmp"):
        (tmp_path / name).touch()
    selection = Selection(tmp_path, [".bmp"], exclude=["e.xmp"])
    listed = [file for file in scan(tmp_path, selection) if isinstance(file, LocalFile)]
    assert {file.path: file.sidecar and file.sidecar.path.name for file in listed} == {
        **dict.fromkeys(["a.bmp", "b.bmp", "c.bmp", "e.bmp"]),
        "d.bmp": "d.xmp",
    }
    assert [find_sidecar(tmp_path, file.path, selection) for file in listed] == [file.sidecar for file in listed]


def test_the_files_that_a_sidecar_describes_are_found_after_it_is_gone(tmp_path: Path) -> None:
    (tmp_path / "sub").mkdir()
    for name in ("a.jpg", "a.dng", "a.jpg.png", "b.jpg", "sub/a.jpg"):
        (tmp_path / name).touch()
    assert sorted(described_files(tmp_path, ["a.xmp"])) == ["a.dng", "a.jpg"]
    assert sorted(described_files(tmp_path, ["a.jpg.xmp", "missing/a.xmp"])) == ["a.jpg", "a.jpg.png"]
    assert list(described_files(tmp_path, ["sub/a.XMP"])) == ["sub/a.jpg"]
