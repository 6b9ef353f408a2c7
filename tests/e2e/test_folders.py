"""``syncer sync`` on a folder that changes, as users run it."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.helpers.pictures import make_pictures
from tests.helpers.processes import Syncer
from tests.helpers.queries import query
from tests.helpers.waiting import wait_until

# Root, but subject to file permissions.
WITHOUT_READING_EVERYTHING = ["setpriv", "--bounding-set=-dac_override,-dac_read_search"]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    folder = tmp_path / "pictures"
    make_pictures(folder, 21)
    return folder


def test_a_dry_run_changes_nothing_and_the_sync_does_what_it_printed(
    syncer: Syncer, folder: Path, home: Path, database_url: str
) -> None:
    said = syncer("sync", folder, "--bucket", "b", "--dry-run", "--json")
    assert (said.status, said.json["new"], len(said.json["files"])) == (0, 21, 21), said.stderr
    assert query(database_url, "SELECT relname FROM pg_class WHERE relname LIKE 'b\\_%'") == []
    assert not (home / "buckets").exists()
    assert syncer("upload", folder, "--bucket", "b").status == 0
    (folder / "set 0" / "picture-0000.jpg").rename(folder / "renamed.jpg")
    (folder / "set 1" / "picture-0001.jpg").unlink()
    lines = syncer("upload", folder, "--bucket", "b", "--dry-run", "--delete").stdout.splitlines()
    assert lines[:-1] == ["moved      set 0/picture-0000.jpg -> renamed.jpg", "deleted    set 1/picture-0001.jpg"]
    done = syncer("upload", folder, "--bucket", "b", "--delete", "--json")
    assert done.status == 0, done.stderr
    assert {what: done.json[what] for what in ("uploaded", "moved", "deleted", "unchanged", "total")} == {
        "uploaded": 0,
        "moved": 1,
        "deleted": 1,
        "unchanged": 19,
        "total": 20,
    }


def test_other_files_are_counted_by_type_and_named_on_request(syncer: Syncer, folder: Path) -> None:
    os.mkfifo(folder / "pipe.jpg")
    (folder / "film.mp4").touch()
    (folder / "odd\x1b[31m.mp4").touch()
    (folder / "secret.jpg").symlink_to("/etc/hostname")
    done = syncer("upload", folder, "--bucket", "b", "--verbose")
    line = "4 other files skipped: 2 mp4, 1 pipe, socket or device, 1 linked from outside the folder"
    assert done.status == 0, done.stderr
    assert line in done.stdout
    assert "film.mp4: skipped: mp4\n" in done.stderr
    assert "odd\\x1b[31m.mp4: skipped: mp4\n" in done.stderr
    again = syncer("upload", folder, "--bucket", "b", "--dry-run", "--json")
    assert (again.json["unchanged"], again.json["skipped"], again.json["files"]) == (21, 4, [])


def test_images_behind_a_link_that_is_no_longer_followed_are_kept(syncer: Syncer, folder: Path, tmp_path: Path) -> None:
    make_pictures(tmp_path / "elsewhere", 1)
    (folder / "album").symlink_to(tmp_path / "elsewhere")
    assert syncer("upload", folder, "--bucket", "b", "--follow-links", "--json").json["total"] == 22
    done = syncer("upload", folder, "--bucket", "b", "--delete", "--yes", "--json")
    assert (done.status, done.json["deleted"], done.json["total"]) == (0, 0, 22)


def test_a_read_that_hangs_does_not_keep_the_process_alive(syncer: Syncer, folder: Path, database_url: str) -> None:
    """A hanging network drive blocks a thread in the kernel; here a thread sleeps instead."""
    assert syncer("upload", folder, "--bucket", "b").status == 0
    (folder / "new.jpg").write_bytes((folder / "set 0" / "picture-0000.jpg").read_bytes())
    hanging = "import time; from syncer.folder import planner; from syncer.cli import main;"
    hanging += " planner.digest = lambda path: (print('hashing', flush=True), time.sleep(600)); main()"
    stuck = Syncer(syncer.environment, (sys.executable, "-c", hanging)).start("upload", folder, "--bucket", "b")
    with stuck as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "hashing\n"
        process.terminate()
        assert process.wait(timeout=60) == 130


def test_a_refused_mass_deletion_has_exit_status_1(syncer: Syncer, folder: Path) -> None:
    assert syncer("upload", folder, "--bucket", "b").status == 0
    for number in range(3):
        (folder / f"set {number}" / f"picture-000{number}.jpg").unlink()
    refused = syncer("upload", folder, "--bucket", "b", "--delete", "--json")
    assert (refused.status, refused.json["deleted"], refused.json["total"]) == (1, 0, 21)
    assert "3 of 21" in refused.json["withheld"]
    assert "--yes" in refused.stderr
    done = syncer("upload", folder, "--bucket", "b", "--delete", "--yes", "--json")
    assert (done.status, done.json["deleted"], done.json["total"]) == (0, 3, 18)


def test_concurrent_syncers_upload_each_file_once(syncer: Syncer, folder: Path, home: Path, database_url: str) -> None:
    make_pictures(folder, 200, first=100)
    running = [syncer.start("upload", folder, "--bucket", "b", "--json") for _ in range(3)]
    ended = [(process.communicate(timeout=120), process.returncode) for process in running]
    assert [status for _, status in ended] == [0, 0, 0], ended
    done = syncer("upload", folder, "--bucket", "b", "--json")
    assert (done.json["total"], done.json["unchanged"]) == (221, 221)


def test_a_killed_syncer_does_not_block_the_next_one(syncer: Syncer, folder: Path, database_url: str) -> None:
    make_pictures(folder, 300, first=100)
    process = syncer.start("upload", folder, "--bucket", "b")
    wait_until(lambda: query(database_url, "SELECT id FROM b_images LIMIT 1") != [])
    os.killpg(process.pid, signal.SIGKILL)
    process.communicate()
    # Only the lock file tells in time that the process has ended.
    query(database_url, "UPDATE source_locks SET expires_at = now() + interval '1 hour'")
    done = syncer("upload", folder, "--bucket", "b", "--json", timeout=100)
    assert (done.status, done.json["total"]) == (0, 321), done.stderr


def test_images_below_an_unreadable_folder_are_not_deleted(syncer: Syncer, folder: Path) -> None:
    assert syncer("upload", folder, "--bucket", "b").status == 0
    (folder / "set 1" / "picture-0001.jpg").unlink()
    (folder / "set 0").rename(folder / "set 9")
    (folder / "set 2").chmod(0)
    command = [sys.executable, "-m", "syncer", "upload", folder, "--bucket", "b", "--delete", "--yes", "--json"]
    if os.geteuid() == 0:
        command = [*WITHOUT_READING_EVERYTHING, *command]
    done = subprocess.run(command, env=syncer.environment, capture_output=True, text=True, timeout=100)
    (folder / "set 2").chmod(0o755)
    result = json.loads(done.stdout)
    assert (done.returncode, result["deleted"], result["moved"], result["total"]) == (3, 0, 3, 21), done.stderr
    assert "could not be read" in result["withheld"]
    after = syncer("upload", folder, "--bucket", "b", "--delete", "--yes", "--json")
    assert (after.status, after.json["deleted"], after.json["total"]) == (0, 1, 20)
