"""Listing of the images in a folder."""

import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.errors import ImageRefused, SettingsError
from syncer.folder.ignore import IGNORE_FILE, Selection
from syncer.folder.scan import LINK_OUT, NOT_REGULAR, LocalFile, Skipped, Unlisted, digest, scan

SUFFIXES = {".jpg"}
NAME = st.text(st.characters(exclude_characters="/\0", exclude_categories=["Cs"]), min_size=1, max_size=8)


def make(folder: Path, *names: str) -> None:
    for name in names:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()


def paths(folder: Path, at: str = "", **patterns: list[str]) -> list[str]:
    selection = Selection(folder, SUFFIXES, **patterns)
    found = [entry.path for entry in scan(folder, selection, at) if isinstance(entry, LocalFile)]
    assert all(selection.includes(path) for path in found)
    return found


def skipped(folder: Path, at: str = "") -> list[Skipped]:
    return [entry for entry in scan(folder, Selection(folder, SUFFIXES), at) if isinstance(entry, Skipped)]


# Neither hidden nor the name of a system folder.
VISIBLE = NAME.map(lambda name: f"x{name}x")


@given(st.sets(st.lists(VISIBLE, min_size=1, max_size=3).map(tuple), max_size=12))
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


def test_only_visible_images_are_listed(tmp_path: Path) -> None:
    make(tmp_path, "a.JPG", "b.jpg", "c.txt", ".hidden.jpg", ".folder/d.jpg", "sub/e.jpg")
    assert paths(tmp_path) == ["a.JPG", "b.jpg", "sub/e.jpg"]


def test_links_are_followed_except_in_circles(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "real" / "a.jpg").touch()
    (tmp_path / "link").symlink_to(tmp_path / "real")
    (tmp_path / "real" / "up").symlink_to(tmp_path)
    assert paths(tmp_path) == ["link/a.jpg", "real/a.jpg"]


def test_links_out_of_the_folder_are_followed_only_on_request(tmp_path: Path) -> None:
    folder, elsewhere = tmp_path / "photos", tmp_path / "elsewhere"
    make(folder, "a.jpg")
    make(elsewhere, "b.jpg")
    (folder / "album").symlink_to(elsewhere)
    (folder / "c.jpg").symlink_to(elsewhere / "b.jpg")
    (folder / "d.jpg").symlink_to("a.jpg")
    assert paths(folder) == ["a.jpg", "d.jpg"]
    assert skipped(folder) == [Skipped("album/", LINK_OUT), Skipped("c.jpg", LINK_OUT)]
    assert skipped(folder, "album") == [Skipped("album/", LINK_OUT)]
    assert skipped(folder, "c.jpg") == [Skipped("c.jpg", LINK_OUT)]
    everything = scan(folder, Selection(folder, SUFFIXES, follow_links=True))
    assert [entry.path for entry in everything] == ["a.jpg", "album/b.jpg", "c.jpg", "d.jpg"]


def test_a_pipe_is_skipped_and_never_opened_for_waiting(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "a.jpg")
    make(tmp_path, "b.jpg")
    assert paths(tmp_path) == ["b.jpg"]
    assert skipped(tmp_path) == [Skipped("a.jpg", NOT_REGULAR)]
    with pytest.raises(ImageRefused, match="not a regular file"):
        digest(tmp_path / "a.jpg")


def test_files_of_other_types_are_skipped_by_type_unless_excluded(tmp_path: Path) -> None:
    make(tmp_path, "a.MP4", "b.jpg(1)", "c", "d.a sentence that goes far", "e.txt", ".hidden.mp4", "sub/f.mp4")
    (tmp_path / IGNORE_FILE).write_text("*.txt\n")
    kinds = [(entry.path, entry.kind) for entry in skipped(tmp_path)]
    none = "without a suffix"
    assert kinds == [
        ("a.MP4", "mp4"),
        ("b.jpg(1)", "jpg(1)"),
        ("c", none),
        ("d.a sentence that goes far", none),
        ("sub/f.mp4", "mp4"),
    ]


SYSTEM_FOLDERS = [
    *("@eaDir", "#recycle", "@Recycle", "$RECYCLE.BIN", ".Trash-1000", "lost+found", ".thumbnails"),
    *("System Volume Information", "Catalog Previews.lrdata", "FOUND.000", "RECYCLER", "__MACOSX", "@EADIR"),
    *("My.photoslibrary/resources", "Old.aplibrary/Thumbnails", "x.cocatalog/Cache"),
]


@pytest.mark.parametrize("name", SYSTEM_FOLDERS)
def test_folders_of_the_system_are_left_out_unless_a_pattern_takes_them(tmp_path: Path, name: str) -> None:
    make(tmp_path, f"{name}/a.jpg", f"{name}/sub/a.jpg", f"{name}/{name}/a.jpg", "b.jpg", "c/lost+found.jpg")
    assert paths(tmp_path) == ["b.jpg", "c/lost+found.jpg"]
    assert skipped(tmp_path) == []
    assert {f"{name}/a.jpg", f"{name}/sub/a.jpg"} < set(paths(tmp_path, exclude=["!" + name + "/"]))


def test_the_originals_in_a_photo_library_are_listed(tmp_path: Path) -> None:
    make(tmp_path, "My.photoslibrary/originals/0/a.jpg", "resources/b.jpg", "CaptureOne/c.jpg", "trailing space.jpg ")
    assert len(paths(tmp_path)) == 4


def test_an_undecodable_name_and_a_broken_link_are_reported(tmp_path: Path) -> None:
    (Path(os.fsdecode(bytes(tmp_path) + b"/\xff.jpg"))).touch()
    (tmp_path / "broken.jpg").symlink_to("nowhere")
    reported = {entry.path for entry in scan(tmp_path, Selection(tmp_path, SUFFIXES)) if isinstance(entry, Unlisted)}
    assert reported == {"\\xff.jpg", "broken.jpg"}


def test_only_files_at_and_below_a_path_are_listed(tmp_path: Path) -> None:
    make(tmp_path, "a.jpg", "sub/b.jpg", "sub/deep/c.jpg", "sub/.hidden/d.jpg", "subs/e.jpg")
    assert paths(tmp_path, "sub") == ["sub/b.jpg", "sub/deep/c.jpg"]
    assert paths(tmp_path, "sub/deep/c.jpg") == ["sub/deep/c.jpg"]
    assert paths(tmp_path, "sub/.hidden") == paths(tmp_path, "sub/.hidden/d.jpg") == []
    assert paths(tmp_path, "nowhere/f.jpg") == paths(tmp_path, "a.jpg/f.jpg") == []


def test_patterns_of_the_command_line_select_files(tmp_path: Path) -> None:
    make(tmp_path, "a.jpg", "raw/b.jpg", "raw/c.jpg", "2024/raw/d.jpg", "2024/e.jpg")
    assert paths(tmp_path, exclude=["raw/"]) == ["2024/e.jpg", "a.jpg"]
    assert paths(tmp_path, exclude=["/raw", "e.*"]) == ["2024/raw/d.jpg", "a.jpg"]
    assert paths(tmp_path, include=["raw/"]) == ["2024/raw/d.jpg", "raw/b.jpg", "raw/c.jpg"]
    assert paths(tmp_path, include=["raw/", "a.jpg"], exclude=["c.jpg", "2024"]) == ["a.jpg", "raw/b.jpg"]
    assert paths(tmp_path, "raw", exclude=["raw/"]) == paths(tmp_path, "raw/b.jpg", exclude=["raw/"]) == []


def test_ignore_files_apply_below_their_folder_and_the_nearest_one_wins(tmp_path: Path) -> None:
    make(tmp_path, "a.jpg", "x.jpg", "sub/x.jpg", "sub/y.jpg", "sub/deep/y.jpg", "other/y.jpg", ".hidden/h.jpg")
    (tmp_path / IGNORE_FILE).write_text("# a comment\nx.jpg\n!.hidden/\n")
    (tmp_path / "sub" / IGNORE_FILE).write_text("!x.jpg\n/y.jpg\n")
    assert paths(tmp_path) == [".hidden/h.jpg", "a.jpg", "other/y.jpg", "sub/deep/y.jpg", "sub/x.jpg"]
    assert paths(tmp_path, exclude=["sub/x.jpg"]) == [".hidden/h.jpg", "a.jpg", "other/y.jpg", "sub/deep/y.jpg"]


def test_our_own_derivatives_are_never_listed(tmp_path: Path) -> None:
    make(tmp_path, ".image-browser/thumbnails/a.jpg", "b.jpg")
    (tmp_path / IGNORE_FILE).write_text("!.image-browser/\n!.image-browser\n")
    assert paths(tmp_path) == ["b.jpg"]


def test_a_folder_whose_ignore_file_cannot_be_used_is_unlisted(tmp_path: Path) -> None:
    make(tmp_path, "a.jpg", "sub/b.jpg")
    (tmp_path / "sub" / IGNORE_FILE).mkdir()
    selection = Selection(tmp_path, SUFFIXES)
    assert [entry.path for entry in scan(tmp_path, selection)] == ["a.jpg", "sub/"]
    assert not selection.includes("sub/b.jpg")


def test_an_invalid_pattern_is_an_error_that_names_its_option(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="--exclude"):
        Selection(tmp_path, SUFFIXES, exclude=["!"])


def test_the_ctime_of_a_file_that_has_just_changed_is_unknown(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    make(tmp_path, "a.jpg")
    selection = Selection(tmp_path, SUFFIXES)
    seen = []
    for step in (3600 * 10**9, 0):
        monkeypatch.setattr("syncer.folder.scan.CLOCK_STEP", step)
        seen += [entry.ctime_ns for entry in scan(tmp_path, selection) if isinstance(entry, LocalFile)]
    assert seen == [0, (tmp_path / "a.jpg").stat().st_ctime_ns]
