"""``syncer sync --watch`` as a real process on a folder that changes."""

import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.fakes.s3 import FaultyProxy, S3Server, s3_environment
from tests.helpers.pictures import make_pictures
from tests.helpers.processes import Syncer
from tests.helpers.queries import query


@dataclass
class Watcher:
    """A running ``syncer sync --watch``."""

    process: "subprocess.Popen[str]"
    database_url: str
    log: Path

    def found(self) -> set[str]:
        """Return the keys of embedded images."""
        return {key for key, vector in self.vectors().items() if vector is not None}

    def vectors(self) -> dict[str, str | None]:
        """Return the vector of each image by key; None if it has none yet."""
        return dict(query(self.database_url, "SELECT r2_key, embedding::text FROM photos_embeddings"))

    def wait_until(self, condition: Callable[[], bool]) -> None:
        """Wait until the condition holds; fail if the process ends."""
        deadline = time.monotonic() + 90
        while not condition():
            assert self.process.poll() is None, self.log.read_text()
            assert time.monotonic() < deadline, self.log.read_text()
            time.sleep(0.05)

    def wait_until_found(self, expected: set[str]) -> None:
        self.wait_until(lambda: self.found() == expected)

    def wait_until_logged(self, text: str) -> None:
        self.wait_until(lambda: text in self.log.read_text())


@contextmanager
def watching(syncer: Syncer, folder: Path, log: Path, *flags: str, **environment: str) -> Iterator[Watcher]:
    """Watch the folder while the block runs, which begins after the first sync."""
    with log.open("w") as output:
        process = subprocess.Popen(
            [sys.executable, "-m", "syncer", "sync", str(folder), "--bucket", "photos", "--watch", *flags],
            env=syncer.environment | environment,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            text=True,
            start_new_session=True,
        )
    watcher = Watcher(process, syncer.environment["DATABASE_URL"], log)
    try:
        watcher.wait_until_logged("watching")
        yield watcher
    finally:
        process.send_signal(signal.SIGINT)
        assert process.wait(timeout=60) == 130, log.read_text()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    folder = tmp_path / "photos"
    make_pictures(folder, 14)
    return folder


@pytest.fixture
def more(tmp_path: Path) -> list[Path]:
    """Pictures outside the folder."""
    return make_pictures(tmp_path / "more", 10, first=100)


def names(folder: Path) -> set[str]:
    return {path.relative_to(folder).as_posix() for path in folder.rglob("*.jpg")}


def test_changes_of_the_folder_reach_the_collection(
    syncer: Syncer, folder: Path, more: list[Path], tmp_path: Path
) -> None:
    with watching(syncer, folder, tmp_path / "log", "--delete", "--yes") as watcher:
        watcher.wait_until_found(names(folder))
        shutil.copy(more[0], folder / "new.jpg")
        watcher.wait_until_found(names(folder))

        before = watcher.vectors()
        shutil.copy(more[1], folder / "new.jpg")
        watcher.wait_until(lambda: watcher.vectors()["new.jpg"] not in (None, before["new.jpg"]))

        before = watcher.vectors()
        (folder / "new.jpg").rename(folder / "renamed.jpg")
        (folder / "set 1").rename(folder / "album")
        watcher.wait_until_found(names(folder))
        after = watcher.vectors()
        assert after["renamed.jpg"] == before["new.jpg"]
        assert sorted(after.values()) == sorted(before.values())

        (folder / "renamed.jpg").unlink()
        shutil.rmtree(folder / "album")
        watcher.wait_until_found(names(folder))

        make_pictures(folder / "whole" / "new" / "tree", 30, first=200)
        watcher.wait_until_found(names(folder))


def test_a_sidecar_updates_its_image(syncer: Syncer, folder: Path, tmp_path: Path) -> None:
    with watching(syncer, folder, tmp_path / "log") as watcher:
        watcher.wait_until_found(names(folder))
        before = watcher.vectors()
        statement = "SELECT keywords FROM photos_images WHERE r2_key = 'set 1/picture-0001.jpg'"
        sidecar = folder / "set 1/picture-0001.xmp"
        sidecar.write_text(
            "<rdf:RDF xmlns:rdf='http://www.w3.org/1999/02/22-rdf-syntax-ns#'"
            " xmlns:dc='http://purl.org/dc/elements/1.1/'><dc:subject>heron</dc:subject></rdf:RDF>"
        )
        watcher.wait_until(lambda: query(watcher.database_url, statement) == [(["heron"],)])
        sidecar.unlink()
        watcher.wait_until(lambda: query(watcher.database_url, statement) == [([],)])
        assert watcher.vectors() == before


def test_a_file_is_uploaded_when_it_is_complete(syncer: Syncer, folder: Path, more: list[Path], tmp_path: Path) -> None:
    content = more[0].read_bytes()
    with watching(syncer, folder, tmp_path / "log", "--delete", "--yes") as watcher:
        with (folder / "slow.jpg").open("wb") as file:
            time.sleep(0.5)
            for start in range(0, len(content), 200):
                file.write(content[start : start + 200])
                file.flush()
                time.sleep(0.2)
        # Editors save under another name first, which then replaces the old file.
        shutil.copy(more[1], folder / "set 1" / "saving.tmp")
        victim = next((folder / "set 1").glob("*.jpg"))
        victim.rename(victim.with_suffix(".jpg~"))
        (folder / "set 1" / "saving.tmp").rename(victim)
        before = watcher.vectors()[victim.relative_to(folder).as_posix()]
        watcher.wait_until_found(names(folder))
        watcher.wait_until(lambda: watcher.vectors()[victim.relative_to(folder).as_posix()] not in (None, before))
        assert query(watcher.database_url, "SELECT id FROM photos_images WHERE truncated") == []
        assert query(watcher.database_url, "SELECT path FROM photos_files WHERE attempts > 0") == []


def test_a_watch_waits_for_a_folder_that_vanishes_or_is_empty(
    syncer: Syncer, folder: Path, more: list[Path], tmp_path: Path
) -> None:
    log = tmp_path / "log"
    with watching(syncer, folder, log, "--delete", "--yes") as watcher:
        watcher.wait_until_found(names(folder))
        everything, written = watcher.found(), watcher.vectors()
        folder.rename(tmp_path / "unmounted")
        watcher.wait_until_logged("disk not mounted?")
        folder.mkdir()
        time.sleep(2.5)
        assert watcher.found() == everything
        folder.rmdir()
        (tmp_path / "unmounted").rename(folder)
        watcher.wait_until_logged("is available")
        shutil.copy(more[0], folder / "after.jpg")
        watcher.wait_until_found(everything | {"after.jpg"})
        assert written.items() <= watcher.vectors().items()
    assert log.read_text().count("disk not mounted?") == 1


def test_a_rescan_finds_changes_without_notification(
    syncer: Syncer, folder: Path, more: list[Path], tmp_path: Path
) -> None:
    with watching(syncer, folder, tmp_path / "log", "--follow-links", WATCH_RESCAN_SECONDS="1") as watcher:
        (folder / "link").symlink_to(more[0].parent)
        linked = {f"link/{path.name}" for path in more[0].parent.glob("*.jpg")}
        watcher.wait_until(lambda: linked <= watcher.found())
        shutil.copy(more[1], more[0].parent / "behind the link.jpg")
        watcher.wait_until(lambda: "link/behind the link.jpg" in watcher.found())


def test_a_watch_survives_an_outage_of_the_store(
    syncer: Syncer, folder: Path, more: list[Path], tmp_path: Path
) -> None:
    with S3Server() as s3, FaultyProxy(s3.url) as proxy:
        s3.make_bucket("photos")
        syncer.environment |= s3_environment(proxy.url) | {"OUTAGE_PATIENCE_SECONDS": "0"}
        with watching(syncer, folder, tmp_path / "log") as watcher:
            watcher.wait_until_found(names(folder))
            proxy.stop()
            shutil.copy(more[0], folder / "meanwhile.jpg")
            time.sleep(3)
            assert watcher.process.poll() is None
            proxy.start()
            watcher.wait_until_found(names(folder))
