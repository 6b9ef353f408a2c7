"""Compare `syncer sync` with a local model to its parts, and to CocoIndex doing the same job.

    python -m bench.local_sync [--photos 100] [--rounds 3]

All embed the same photos of 12 megapixels with the offline model. The parts are measured bare on one core: decode the
photo once, derive thumbnail and preview, embed. The limit is that rate times the number of cores. CocoIndex runs the
same functions in threads and writes one row per photo into the same PostgreSQL; it is skipped where the packages of the
group `bench` are not installed. Figures cover whole processes, and are medians of interleaved rounds.
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
from pathlib import Path

import skimage.data
from PIL import Image

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


def run(*command: str | Path, environment: dict[str, str], output: Path) -> tuple[float, float]:
    """Return the seconds that a command takes, and the peak memory of the largest of its processes in MB."""
    with output.open("w") as file:
        began = time.perf_counter()
        process = subprocess.Popen(list(map(str, command)), env=environment, stdout=file, stderr=file)
        _, status, usage = os.wait4(process.pid, 0)
    if status:
        raise SystemExit(f"{command}: exit status {os.waitstatus_to_exitcode(status)}\n{output.read_text()}")
    return time.perf_counter() - began, usage.ru_maxrss / 1e3


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--photos", type=int, default=100)
    parser.add_argument("--rounds", type=int, default=3)
    arguments = parser.parse_args()
    has_peer = all(importlib.util.find_spec(name) for name in ("cocoindex", "asyncpg"))
    if not has_peer:
        print("CocoIndex is not installed and is skipped: run `uv pip install --group bench` to compare with it")
    with tempfile.TemporaryDirectory(prefix="image-browser-bench-", ignore_cleanup_errors=True) as scratch_folder:
        scratch = Path(scratch_folder)
        make_photos(scratch / "photos", arguments.photos)
        server = asyncio.run(embedded.start(scratch / "database"))
        try:
            measure(scratch, server.url, arguments.photos, arguments.rounds, has_peer=has_peer)
        finally:
            asyncio.run(server.release())


def measure(scratch: Path, database_url: str, count: int, rounds: int, *, has_peer: bool) -> None:
    home = scratch / "home"
    model = ensure_built(home / "models" / "offline-v1")
    environment = os.environ | {
        "DATABASE_URL": database_url,
        "IMAGE_BROWSER_HOME": str(home),
        "EMBEDDER": "offline",
        "COCOINDEX_DISABLE_USAGE_TRACKING": "1",
    }
    figures: dict[str, list[float]] = {}
    for number in range(rounds):
        limit = CORES / bare_seconds(model, scratch / "photos")
        sync = (sys.executable, "-m", "syncer", "sync", scratch / "photos", "--bucket", f"round-{number}")
        seconds, memory = run(*sync, environment=environment, output=scratch / "output")
        values = {"limit": limit, "syncer sync": count / seconds, "syncer sync / limit": count / seconds / limit}
        values["syncer sync, MB"] = memory
        if has_peer:
            peer = (
                sys.executable,
                "-m",
                "bench.cocoindex_peer",
                scratch / "photos",
                scratch / f"state-{number}",
                model,
                f"peer_{number}",
            )
            peer_seconds, peer_memory = run(*peer, environment=environment, output=scratch / "output")
            values |= {"CocoIndex": count / peer_seconds, "syncer sync / CocoIndex": peer_seconds / seconds}
            values["CocoIndex, MB"] = peer_memory
        for name, value in values.items():
            figures.setdefault(name, []).append(value)
    print(f"{count} photos of 12 megapixels, {CORES} cores, load {os.getloadavg()[0]:.1f}; photos per second")
    for name, each in figures.items():
        print(f"{name:24} {statistics.median(each):7.2f}   {' '.join(f'{value:.2f}' for value in each)}")


if __name__ == "__main__":
    main()
