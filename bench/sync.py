"""Measures uploading and looking again against `aws s3 sync`, in turn and on the same S3 server (moto) on this machine.

    python -m bench.sync [--files 2000] [--rescan 20000] [--rounds 5] [--memory 200000]

Each figure is a whole process, from its start to its end, with the embedded PostgreSQL that ours starts and stops.
Figures are medians, and ratios medians of each round's ratio. In each round two ceilings are measured too: how fast the
server takes the same objects from a client that does nothing else, and how fast the decoding workers examine the same
files on all cores. Server, decoders and client share the cores, so that beside its own rate each has its processor
time, and what is allowed is the least of: the server's rate, the decoders' rate, and the cores divided by the processor
time that both take for one image together.
"""

import argparse
import asyncio
import http.client
import os
import queue
import shutil
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from urllib.parse import urlsplit

import numpy as np
import psutil
from PIL import Image

from shared.db import embedded
from shared.images import examine
from shared.images.worker_pool import DecoderPool
from tests.fakes.s3 import ACCESS_KEY_ID, SECRET_ACCESS_KEY, S3Server
from tests.helpers.many_files import link_many, make_known, run_and_measure
from tests.helpers.pictures import make_pictures
from tests.helpers.processes import Syncer

CORES = os.cpu_count() or 1
CLIENTS = 8
AWS, PLAIN = "aws s3 sync", "syncer upload --no-derivatives"
TOOLS = Path(sys.executable).parent


def make_photos(folder: Path, count: int) -> list[Path]:
    """Write JPEGs of 640 x 480 pixels and about 32 kB, a hundred to a folder, and return their paths."""
    paths = []
    for number in range(count):
        random = np.random.default_rng(number)
        coarse = Image.fromarray(random.integers(0, 256, (30, 40, 3), dtype=np.uint8))
        pixels = np.asarray(coarse.resize((640, 480), Image.Resampling.BICUBIC), dtype=np.int16)
        noise = random.integers(-6, 7, (480, 640, 1), dtype=np.int16)
        path = folder / f"{number // 100:03}" / f"{number:06}.jpg"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.clip(pixels + noise, 0, 255).astype(np.uint8)).save(path, quality=57)
        paths.append(path)
    return paths


def make_tiny(folder: Path, count: int) -> None:
    """Write JPEGs of a few hundred bytes, each different, a thousand to a folder."""
    for number in range(count):
        path = folder / f"{number // 1000:03}" / f"{number:06}.jpg"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new("L", (8, 8), number % 256).save(path, comment=str(number).encode())


@dataclass(frozen=True)
class Rate:
    """What was done: images per second, and processor seconds per image."""

    rate: float
    cost: float


@dataclass(frozen=True)
class Round:
    """The environment of one round's commands, and its server."""

    environment: dict[str, str]
    server: S3Server

    def run(self, *command: str | Path) -> float:
        """Run a command to its end, and return the seconds that it took."""
        began = time.perf_counter()
        done = subprocess.run(list(map(str, command)), env=self.environment, capture_output=True, text=True)
        seconds = time.perf_counter() - began
        if done.returncode:
            raise SystemExit(f"{command}: exit status {done.returncode}\n{done.stderr}")
        return seconds

    def aws(self, folder: Path, bucket: str) -> float:
        """Run `aws s3 sync`."""
        return self.run(TOOLS / "aws", "s3", "sync", "--only-show-errors", folder, f"s3://{bucket}")

    def ours(self, folder: Path, bucket: str, *flags: str) -> float:
        """Run `syncer upload`."""
        return self.run(TOOLS / "syncer", "upload", folder, "--bucket", bucket, *flags)

    def bucket(self, name: str) -> str:
        self.server.make_bucket(name)
        return name


def put_rate(server: S3Server, bucket: str, bodies: Sequence[list[bytes]]) -> Rate:
    """Return how fast the server takes the objects of each image, and how much of its processor time one image is."""
    waiting: queue.SimpleQueue[tuple[int, list[bytes]]] = queue.SimpleQueue()
    for numbered in enumerate(bodies):
        waiting.put(numbered)

    def work() -> None:
        with closing(http.client.HTTPConnection(urlsplit(server.url).netloc)) as connection:
            while True:
                try:
                    number, objects = waiting.get_nowait()
                except queue.Empty:
                    return
                for part, body in enumerate(objects):
                    connection.request("PUT", f"/{bucket}/{part}/{number:06}.jpg", body)
                    answer = connection.getresponse()
                    answer.read()
                    assert answer.status == 200

    process = psutil.Process(server.pid)
    before = sum(process.cpu_times()[:2])
    began = time.perf_counter()
    threads = [threading.Thread(target=work) for _ in range(CLIENTS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    seconds = time.perf_counter() - began
    return Rate(len(bodies) / seconds, (sum(process.cpu_times()[:2]) - before) / len(bodies))


async def decode_rate(paths: Sequence[Path]) -> Rate:
    """Return how fast the decoding workers examine the files, derivatives included."""
    decoder = DecoderPool()
    await asyncio.gather(*(decoder.run(examine, path) for path in paths[: 2 * CORES]))  # which starts them
    workers = psutil.Process().children()
    before = sum(sum(worker.cpu_times()[:2]) for worker in workers)
    began = time.perf_counter()
    await asyncio.gather(*(decoder.run(examine, path) for path in paths))
    seconds = time.perf_counter() - began
    cost = sum(sum(worker.cpu_times()[:2]) for worker in workers) - before
    await decoder.close()
    return Rate(len(paths) / seconds, cost / len(paths))


@contextmanager
def one_round(home: Path) -> Iterator[Round]:
    """A server that is empty, and the environment of commands that use it."""
    unwanted = ("AWS_", "R2_", "S3_", "DATABASE_", "PYTHON")
    kept = {name: value for name, value in os.environ.items() if not name.startswith(unwanted)}
    # Neither program is to compile its modules in every run.
    kept["PYTHONPYCACHEPREFIX"] = str(home.with_name("compiled"))
    with S3Server() as server:
        keys = {"AWS_ACCESS_KEY_ID": ACCESS_KEY_ID, "AWS_SECRET_ACCESS_KEY": SECRET_ACCESS_KEY}
        aws = {"AWS_ENDPOINT_URL": server.url, "AWS_DEFAULT_REGION": "us-east-1", "AWS_EC2_METADATA_DISABLED": "true"}
        files = {"AWS_CONFIG_FILE": os.devnull, "AWS_SHARED_CREDENTIALS_FILE": os.devnull}
        ours = {"S3_ENDPOINT_URL": server.url, "IMAGE_BROWSER_HOME": str(home), "EMBEDDER": "offline"}
        yield Round(kept | keys | aws | files | ours, server)


def measure_uploads(scratch: Path, count: int, rounds: int) -> None:
    folder, home = scratch / "photos", scratch / "home"
    paths = make_photos(folder, count)
    size = sum(path.stat().st_size for path in paths) / count / 1000
    print(f"{count} JPEGs of {size:.0f} kB, {CORES} cores, load {os.getloadavg()[0]:.1f}; images a second", flush=True)
    plain = [[path.read_bytes()] for path in paths]
    derived = [[body, *derivatives(body)] for [body] in plain[:: max(1, count // 200)]]

    figures: dict[str, list[float]] = {}
    for number in range(rounds):
        with one_round(home) as this:
            if number == 0:
                # What only a first run does: compiled modules, and the embedded PostgreSQL.
                this.aws(folder / "000", this.bucket("first"))
                this.ours(folder / "000", this.bucket("first-of-ours"))
            commands = {
                AWS: partial(this.aws, folder, this.bucket("aws")),
                PLAIN: partial(this.ours, folder, this.bucket(f"plain-{number}"), "--no-derivatives"),
            }
            # Each goes first in turn: the server is slower the more it holds.
            order = list(commands) if number % 2 == 0 else list(reversed(commands))
            rates = {name: count / commands[name]() for name in order}
            server = put_rate(this.server, this.bucket("ceiling"), plain)
            full = count / this.ours(folder, this.bucket(f"full-{number}"))
            server_full = put_rate(this.server, this.bucket("ceiling-full"), derived)
            decoder = asyncio.run(decode_rate(paths[: max(1, count // 4)]))
        together = CORES / (server_full.cost + decoder.cost)
        allowed = min(server_full.rate, decoder.rate, together)
        for name, value in {
            AWS: rates[AWS],
            PLAIN: rates[PLAIN],
            "  of aws s3 sync": rates[PLAIN] / rates[AWS],
            "  server's ceiling": server.rate,
            "syncer upload": full,
            "  server's ceiling, three objects each": server_full.rate,
            "  decoders' ceiling": decoder.rate,
            "  ceiling of both on these cores": together,
            "  of what they allow": full / allowed,
        }.items():
            figures.setdefault(name, []).append(value)
    report(figures)


def derivatives(body: bytes) -> list[bytes]:
    """Return the thumbnail and the preview of an image."""
    examined = examine(body)
    assert examined.thumbnail is not None
    assert examined.preview is not None
    return [examined.thumbnail, examined.preview]


def measure_rescans(scratch: Path, count: int, rounds: int) -> None:
    folder, home = scratch / "tiny", scratch / "home"
    make_tiny(folder, count)
    figures: dict[str, list[float]] = {}
    with one_round(home) as this:
        this.aws(folder, this.bucket("aws"))
        this.ours(folder, this.bucket("rescanned"), "--no-derivatives")
        print(f"{count} unchanged files, load {os.getloadavg()[0]:.1f}; seconds", flush=True)
        for _ in range(rounds):
            aws = this.aws(folder, "aws")
            ours = this.ours(folder, "rescanned", "--no-derivatives")
            for name, value in {AWS: aws, "syncer upload": ours, "  of aws s3 sync": ours / aws}.items():
                figures.setdefault(name, []).append(value)
    report(figures)


def measure_memory(scratch: Path, count: int) -> None:
    """Print the most memory that a run over very many files had: all unchanged, and as many rows of files gone."""
    folder, output = scratch / "many", scratch / "output"
    folder.mkdir()
    [picture] = make_pictures(scratch / "one", 1)
    shutil.copy(picture, folder)
    server = asyncio.run(embedded.start(scratch / "memory"))
    try:
        environment = os.environ | {
            "DATABASE_URL": server.url,
            "IMAGE_BROWSER_HOME": str(scratch),
            "EMBEDDER": "offline",
        }
        syncer = Syncer(environment)
        upload = ("upload", folder, "--bucket", "photos", "--json")
        run_and_measure(syncer, output, *upload)
        (folder / picture.name).unlink()
        link_many(folder, picture, count)
        make_known(server.url, folder, gone=count)
        began = time.perf_counter()
        status, peak = run_and_measure(syncer, output, *upload)
        seconds = time.perf_counter() - began
    finally:
        asyncio.run(server.release())
    assert status == 0, output.read_text()
    print(f"{count} files unchanged and as many gone: at most {peak / 1e6:.0f} MB, {seconds:.1f} s", flush=True)


def report(figures: dict[str, list[float]]) -> None:
    """Print each figure's median, and all of its values."""
    for name, values in figures.items():
        print(
            f"{name:42} {statistics.median(values):8.2f}   {' '.join(f'{value:.2f}' for value in values)}", flush=True
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--files", type=int, default=2000)
    parser.add_argument("--rescan", type=int, default=20_000)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--memory", type=int, default=200_000)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="image-browser-bench-") as folder:
        scratch = Path(folder)
        if arguments.files:
            measure_uploads(scratch, arguments.files, arguments.rounds)
        if arguments.rescan:
            measure_rescans(scratch, arguments.rescan, arguments.rounds)
        if arguments.memory:
            measure_memory(scratch, arguments.memory)


if __name__ == "__main__":
    main()
