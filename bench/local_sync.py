"""Compare `syncer sync` with a local model to its parts, and to CocoIndex doing the same job.

    python -m bench.local_sync [--photos 100] [--rounds 3]

All embed the same photos of 12 megapixels with the offline model. The parts are measured bare on one core: decode the
photo once, derive thumbnail and preview, embed. The limit is that rate times the number of cores. CocoIndex runs the
same functions in threads and writes one row per photo into the same PostgreSQL; it is skipped where the packages of the
group `bench` are not installed. Figures cover whole processes, are medians of interleaved rounds, and include the time
from the start to the first row and to the first vector. Memory is that of all processes of the command, each shared
page counted once.

    python -m bench.local_sync --watch [--photos 20]

Both watch a folder instead. Small photos are written into it one by one; the figures are the milliseconds from the end
of a write to the row and to the vector.
"""

import argparse
import asyncio
import importlib.util
import io
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
import psycopg
import skimage.data
from PIL import Image
from psycopg import sql

from shared.db import embedded
from shared.embedders.examination import examine_for_offline
from shared.embedders.offline.cache import ensure_built
from shared.embedders.offline.towers import OfflineImageTower

CORES = os.cpu_count() or 1


def make_photos(folder: Path, count: int) -> None:
    """Write different JPEGs of 4000 x 3000 pixels and about 2 MB."""
    folder.mkdir()
    names = ("astronaut", "coffee", "chelsea", "rocket")
    sources = [
        Image.fromarray(getattr(skimage.data, name)()).resize((4000, 3000), Image.Resampling.BICUBIC) for name in names
    ]
    for number in range(count):
        file = io.BytesIO()
        sources[number % 4].save(file, "JPEG", quality=92, comment=str(number).encode())
        (folder / f"{number:05}.jpg").write_bytes(file.getvalue())


def bare_seconds(model: Path, folder: Path) -> float:
    """Return the seconds per photo of decoding, deriving and embedding, one after the other on one core."""
    tower = OfflineImageTower(model)
    photos = sorted(folder.iterdir())[:20]

    def process(photo: Path) -> None:
        examined = examine_for_offline(photo, derivatives=True)
        assert examined.model_input
        tower.embed(examined.model_input.array)

    process(photos[0])
    began = time.perf_counter()
    for photo in photos:
        process(photo)
    return (time.perf_counter() - began) / len(photos)


@dataclass(frozen=True)
class Tables:
    """Tables of a program: one with a row per photo, one with the vectors. They may be one table."""

    rows: str
    vectors: str
    key: str  # column with the name of the file


@dataclass
class Observation:
    """Seconds until the first row, the first vector and the end, and the peak memory in MB."""

    first_row: float = 0.0
    first_vector: float = 0.0
    seconds: float = 0.0
    peak: float = 0.0


def memory(process: psutil.Process) -> float:
    """Return the memory in MB of a process and its children, each shared page counted once."""
    total = 0.0
    for each in [process, *process.children(recursive=True)]:
        with suppress(psutil.NoSuchProcess, psutil.AccessDenied):
            total += each.memory_full_info().pss / 1e6
    return total


def exists(conn: psycopg.Connection[Any], table: str, condition: sql.Composable) -> bool:
    try:
        statement = sql.SQL("SELECT EXISTS (SELECT FROM {} WHERE {})").format(sql.Identifier(table), condition)
        row = conn.execute(statement).fetchone()
    except psycopg.errors.UndefinedTable:
        return False
    return bool(row and row[0])


def run(command: list[str | Path], tables: Tables, environment: dict[str, str], output: Path) -> Observation:
    """Run a command to its end and observe its tables and memory."""
    found = Observation()
    anything, embedded_row = sql.SQL("true"), sql.SQL("embedding IS NOT NULL")
    with output.open("w") as file, psycopg.connect(environment["DATABASE_URL"], autocommit=True) as conn:
        began = time.perf_counter()
        process = subprocess.Popen(list(map(str, command)), env=environment, stdout=file, stderr=file)
        tree, sampled = psutil.Process(process.pid), 0.0
        while process.poll() is None:
            elapsed = time.perf_counter() - began
            if not found.first_row and exists(conn, tables.rows, anything):
                found.first_row = elapsed
            if not found.first_vector and exists(conn, tables.vectors, embedded_row):
                found.first_vector = elapsed
            if elapsed > sampled + 0.5:
                found.peak, sampled = max(found.peak, memory(tree)), elapsed
            time.sleep(0.02)
        found.seconds = time.perf_counter() - began
    if process.returncode:
        raise SystemExit(f"{command}: exit status {process.returncode}\n{output.read_text()}")
    return found


@contextmanager
def running(command: list[str | Path], environment: dict[str, str], output: Path) -> Iterator[None]:
    with output.open("w") as file:
        process = subprocess.Popen(list(map(str, command)), env=environment, stdout=file, stderr=file)
        try:
            yield
        finally:
            process.terminate()
            process.wait()


def watch_latencies(folder: Path, tables: Tables, database_url: str, count: int) -> list[tuple[float, float]]:
    """Write *count* photos one by one; return the milliseconds until each has its row and its vector."""
    photo = Image.fromarray(skimage.data.astronaut()).resize((640, 480))
    measured = []
    with psycopg.connect(database_url, autocommit=True) as conn:

        def wait(table: str, condition: sql.Composable) -> float:
            while not exists(conn, table, condition):
                time.sleep(0.001)
            return time.perf_counter()

        def measure(number: int) -> tuple[float, float]:
            file = io.BytesIO()
            photo.rotate(number + 1).save(file, "JPEG")
            name = f"{number}.jpg"
            (folder / name).write_bytes(file.getvalue())
            began = time.perf_counter()
            found = sql.SQL("{} = {}").format(sql.Identifier(tables.key), name)
            row = wait(tables.rows, found)
            vector = wait(tables.vectors, sql.SQL("{} AND embedding IS NOT NULL").format(found))
            return (row - began) * 1000, (vector - began) * 1000

        measure(count)  # warm up
        for number in range(count):
            time.sleep(1)  # both programs are at rest again
            measured.append(measure(number))
    return measured


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--photos", type=int)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--watch", action="store_true")
    arguments = parser.parse_args()
    has_peer = all(importlib.util.find_spec(name) for name in ("cocoindex", "asyncpg"))
    if not has_peer:
        print("CocoIndex is not installed and is skipped: run `uv pip install --group bench` to compare with it")
    with tempfile.TemporaryDirectory(prefix="image-browser-bench-", ignore_cleanup_errors=True) as scratch_folder:
        scratch = Path(scratch_folder)
        server = asyncio.run(embedded.start(scratch / "database"))
        try:
            programs = Programs(scratch, server.url)
            names = ["syncer sync", *(["CocoIndex"] if has_peer else [])]
            if arguments.watch:
                compare_watching(programs, names, arguments.photos or 20)
            else:
                compare_syncing(programs, names, arguments.photos or 100, arguments.rounds)
        finally:
            asyncio.run(server.release())


class Programs:
    """The commands of both programs, each with the tables it writes."""

    def __init__(self, scratch: Path, database_url: str) -> None:
        self.scratch = scratch
        self.database_url = database_url
        home = scratch / "home"
        self.model = home / "models" / "offline-v1"
        asyncio.run(ensure_built(self.model))
        self.environment = os.environ | {
            "DATABASE_URL": database_url,
            "IMAGE_BROWSER_HOME": str(home),
            "EMBEDDER": "offline",
            "OCR": "off",
            "COCOINDEX_DISABLE_USAGE_TRACKING": "1",
        }

    def get(self, name: str, folder: Path, number: int, *options: str) -> tuple[list[str | Path], Tables]:
        python = sys.executable
        if name == "syncer sync":
            command = [python, "-m", "syncer", "sync", folder, "--bucket", f"round{number}", *options]
            return command, Tables(f"round{number}_images", f"round{number}_embeddings", "r2_key")
        state, table = self.scratch / f"state-{number}", f"peer_{number}"
        return [python, "-m", "bench.cocoindex_peer", folder, state, self.model, table, *options], Tables(
            table, table, "path"
        )


def compare_syncing(programs: Programs, names: list[str], count: int, rounds: int) -> None:
    photos = programs.scratch / "photos"
    make_photos(photos, count)
    figures: dict[str, list[float]] = {}
    for number in range(rounds):
        values = {"limit, photos/s": CORES / bare_seconds(programs.model, photos)}
        for name in names:
            command, tables = programs.get(name, photos, number)
            found = run(command, tables, programs.environment, programs.scratch / "output")
            values |= {
                f"{name}, photos/s": count / found.seconds,
                f"{name}, relative to the limit": count / found.seconds / values["limit, photos/s"],
                f"{name}, first row (s)": found.first_row,
                f"{name}, first vector (s)": found.first_vector,
                f"{name}, peak memory (MB)": found.peak,
            }
        for name, value in values.items():
            figures.setdefault(name, []).append(value)
    print(f"{count} photos of 12 megapixels, {CORES} cores, load {os.getloadavg()[0]:.1f}")
    for name, each in figures.items():
        print(f"{name:36} {statistics.median(each):8.2f}   {' '.join(f'{value:.2f}' for value in each)}")


def compare_watching(programs: Programs, names: list[str], count: int) -> None:
    print(f"{count} photos of 640 x 480 pixels, {CORES} cores, load {os.getloadavg()[0]:.1f}; ms after the last write")
    for name in names:
        folder = programs.scratch / name
        make_photos(folder, 1)
        command, tables = programs.get(name, folder, 0, "--watch")
        with running(command, programs.environment, programs.scratch / "output"):
            with psycopg.connect(programs.database_url, autocommit=True) as conn:
                while not exists(conn, tables.vectors, sql.SQL("embedding IS NOT NULL")):
                    time.sleep(0.1)
            rows, vectors = zip(*watch_latencies(folder, tables, programs.database_url, count), strict=True)
        print(f"{name:12} row {statistics.median(rows):5.0f} (longest {max(rows):5.0f})", end=" ")
        print(f"vector {statistics.median(vectors):5.0f} (longest {max(vectors):5.0f})")


if __name__ == "__main__":
    main()
