"""Listing a folder."""

import os
from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from syncer.scan import LocalFile, Unlisted, scan

SUFFIXES = {".jpg"}
NAME = st.text(st.characters(exclude_characters="/\0", exclude_categories=["Cs"]), min_size=1, max_size=8)


def paths(folder: Path) -> list[str]:
    return [entry.path for entry in scan(folder, SUFFIXES) if isinstance(entry, LocalFile)]


@given(st.sets(st.lists(NAME.filter(lambda n: not n.startswith(".")), min_size=1, max_size=3).map(tuple), max_size=12))
def test_paths_come_in_the_order_of_their_bytes(tmp_path_factory, trees: set[tuple[str, ...]]) -> None:  # type: ignore[no-untyped-def]
    folder: Path = tmp_path_factory.mktemp("tree")
    for parts in trees:
        path = folder.joinpath(*parts[:-1], parts[-1] + ".jpg")
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.touch()
        except (NotADirectoryError, IsADirectoryError, FileExistsError):
            continue
    found = paths(folder)
    assert found == sorted(found, key=str.encode)
    assert len(found) == sum(1 for p in folder.rglob("*") if p.is_file() and not p.name.startswith("."))


def test_only_images_are_listed_and_nothing_hidden(tmp_path: Path) -> None:
    for name in ("a.JPG", "b.jpg", "c.txt", ".hidden.jpg", ".folder/d.jpg", "sub/e.jpg"):
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        path.touch()
    assert paths(tmp_path) == ["a.JPG", "b.jpg", "sub/e.jpg"]


def test_links_are_followed_and_circles_end(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "real" / "a.jpg").touch()
    (tmp_path / "link").symlink_to(tmp_path / "real")
    (tmp_path / "real" / "up").symlink_to(tmp_path)
    assert paths(tmp_path) == ["link/a.jpg", "real/a.jpg"]


def test_a_name_that_is_no_text_and_a_broken_link_are_reported(tmp_path: Path) -> None:
    (Path(os.fsdecode(bytes(tmp_path) + b"/\xff.jpg"))).touch()
    (tmp_path / "broken.jpg").symlink_to(tmp_path / "nowhere")
    reported = {entry.path for entry in scan(tmp_path, SUFFIXES) if isinstance(entry, Unlisted)}
    assert reported == {"\\xff.jpg", "broken.jpg"}
