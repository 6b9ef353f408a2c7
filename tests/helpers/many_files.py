"""Folders of very many files: links to one picture, with the records of an earlier sync."""

import os
import subprocess
import sys
import time
from pathlib import Path

import psycopg

from tests.helpers.processes import Syncer

PER_FOLDER = 1000


def link_many(folder: Path, picture: Path, count: int) -> None:
    """Make *count* files with the content of the picture."""
    for first in range(0, count, PER_FOLDER):
        subfolder = folder / f"{first // PER_FOLDER:04}"
        subfolder.mkdir(parents=True)
        # File systems limit the number of links to one file.
        original = subfolder / f"{first:07}.jpg"
        original.write_bytes(picture.read_bytes())
        for number in range(first + 1, min(first + PER_FOLDER, count)):
            original.with_name(f"{number:07}.jpg").hardlink_to(original)


def record_files(database_url: str, folder: Path, *, missing: int) -> None:
    """Record each file of the folder, and *missing* more, in the collection *photos*; all with its only image."""
    with psycopg.connect(database_url) as conn:
        found = conn.execute("SELECT source_id, sha256, image_id, seen_at FROM photos_files LIMIT 1").fetchone()
        assert found is not None
        source, *rest = found
        conn.execute("DELETE FROM photos_files")
        columns = "source_id, path, size, mtime_ns, ctime_ns, sha256, image_id, seen_at"
        with conn.cursor() as cur, cur.copy(f"COPY photos_files ({columns}) FROM STDIN") as copy:
            for subfolder in folder.iterdir():
                for entry in os.scandir(subfolder):
                    status = entry.stat()
                    times = (status.st_size, status.st_mtime_ns, status.st_ctime_ns)
                    copy.write_row((source, f"{subfolder.name}/{entry.name}", *times, *rest))
            for number in range(missing):
                copy.write_row((source, f"gone/{number // PER_FOLDER:04}/{number:07}.jpg", 1, 1, 1, *rest))


def run_and_measure(syncer: Syncer, output: Path, *arguments: str | Path) -> tuple[int, int]:
    """Run a command with its results in the file *output*; return its exit status and peak memory in bytes."""
    with output.open("w") as file:
        process = subprocess.Popen(
            [sys.executable, "-m", "syncer", *map(str, arguments)],
            env=syncer.environment,
            stdin=subprocess.DEVNULL,
            stdout=file,
            start_new_session=True,
        )
    peak = 0
    while process.poll() is None:
        lines = Path(f"/proc/{process.pid}/status").read_text().splitlines()
        peak = max([peak, *(int(line.split()[1]) << 10 for line in lines if line.startswith("VmHWM"))])
        time.sleep(0.02)
    return process.returncode, peak
