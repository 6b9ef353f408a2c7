"""Compare `syncer upload` with `aws s3 sync`, and measure the memory of a sync.

    python -m bench.sync [--short] [--files 2000] [--rescan 20000] [--rounds 5] [--memory 200000]

Both programs upload to the same S3 server (moto on this machine), which delays each response by 30 ms, as R2 does, with
the same number of concurrent requests. Each figure covers a whole process from start to exit, including the embedded
PostgreSQL that ours starts and stops. Figures are medians of the rounds; ratios are medians of the ratio per round.
`--short` takes less than two minutes.
"""

import argparse
import asyncio
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from PIL import Image

from shared.db import embedded
from tests.fakes.s3 import ACCESS_KEY_ID, SECRET_ACCESS_KEY, S3Server
from tests.helpers.corpus import jpeg
from tests.helpers.many_files import link_many, record_files, run_and_measure
from tests.helpers.pictures import make_pictures
from tests.helpers.processes import Syncer

LATENCY = 0.03  # seconds
CONCURRENCY = 8
# Fewer files would measure little but the start of both programs.
SHORT = {"files": 1000, "rescan": 2000, "rounds": 1, "memory": 0}
AWS, PLAIN, FULL = "aws s3 sync", "syncer upload --no-derivatives", "syncer upload"
TOOLS = Path(sys.executable).parent


def make_photos(folder: Path, count: int) -> None:
    """Write JPEGs of 640 x 480 pixels and about 32 kB, a hundred per folder."""
    for number in range(count):
        path = folder / f"{number // 100:03}" / f"{number:06}.jpg"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(jpeg(seed=number, patches=(40, 30), quality=57))


def make_tiny(folder: Path, count: int) -> None:
    """Write different JPEGs of a few hundred bytes, a thousand per folder."""
    for number in range(count):
        path = folder / f"{number // 1000:03}" / f"{number:06}.jpg"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new("L", (8, 8), number % 256).save(path, comment=str(number).encode())


@dataclass(frozen=True)
class Environment:
    """Environment variables for both programs, and their S3 server."""

    variables: dict[str, str]
    server: S3Server

    def make_bucket(self, name: str) -> str:
        self.server.make_bucket(name)
        return name

    def aws(self, folder: Path, bucket: str) -> float:
        """Return the seconds that `aws s3 sync` takes."""
        return self._run(TOOLS / "aws", "s3", "sync", "--only-show-errors", folder, f"s3://{bucket}")

    def syncer(self, folder: Path, bucket: str, *flags: str) -> float:
        """Return the seconds that `syncer upload` takes."""
        concurrency = ("--upload-concurrency", str(CONCURRENCY))
        return self._run(TOOLS / "syncer", "upload", folder, "--bucket", bucket, *concurrency, *flags)

    def _run(self, *command: str | Path) -> float:
        began = time.perf_counter()
        done = subprocess.run(list(map(str, command)), env=self.variables, capture_output=True, text=True)
        seconds = time.perf_counter() - began
        if done.returncode:
            raise SystemExit(f"{command}: exit status {done.returncode}\n{done.stderr}")
        return seconds


@contextmanager
def new_environment(scratch: Path) -> Iterator[Environment]:
    """Yield an environment with an empty S3 server."""
    prefixes = ("AWS_", "R2_", "S3_", "DATABASE_", "PYTHON")
    inherited = {name: value for name, value in os.environ.items() if not name.startswith(prefixes)}
    config = scratch / "aws-config"
    config.write_text(f"[default]\ns3 =\n    max_concurrent_requests = {CONCURRENCY}\n")
    with S3Server(latency=LATENCY) as server:
        yield Environment(
            {
                **inherited,
                "PYTHONPYCACHEPREFIX": str(scratch / "compiled"),  # so that modules are compiled only once
                "AWS_ACCESS_KEY_ID": ACCESS_KEY_ID,
                "AWS_SECRET_ACCESS_KEY": SECRET_ACCESS_KEY,
                "AWS_ENDPOINT_URL": server.url,
                "AWS_DEFAULT_REGION": "us-east-1",
                "AWS_EC2_METADATA_DISABLED": "true",
                "AWS_CONFIG_FILE": str(config),
                "AWS_SHARED_CREDENTIALS_FILE": os.devnull,
                "S3_ENDPOINT_URL": server.url,
                "IMAGE_BROWSER_HOME": str(scratch / "home"),
                "EMBEDDER": "offline",
                "OCR": "off",
            },
            server,
        )


def measure_uploads(scratch: Path, count: int, rounds: int) -> None:
    """Print how many new images per second both programs upload."""
    folder = scratch / "photos"
    make_photos(folder, count)
    print(f"\n{count} JPEGs, {describe_machine()}; images per second", flush=True)
    figures: dict[str, list[float]] = {}
    for number in range(rounds):
        with new_environment(scratch) as environment:
            if number == 0:
                warm_up(environment, folder / "000")
            aws_bucket = environment.make_bucket("aws")
            plain_bucket = environment.make_bucket(f"plain-{number}")
            # They take turns at going first, because the server gets slower the more it stores.
            if number % 2 == 0:
                aws = environment.aws(folder, aws_bucket)
            plain = environment.syncer(folder, plain_bucket, "--no-derivatives")
            if number % 2 == 1:
                aws = environment.aws(folder, aws_bucket)
            full = environment.syncer(folder, environment.make_bucket(f"full-{number}"))
        record(figures, {AWS: count / aws, PLAIN: count / plain, f"  / {AWS}": aws / plain, FULL: count / full})
    print_medians(figures)


def warm_up(environment: Environment, folder: Path) -> None:
    """Compile modules and create the embedded database, which only first runs do."""
    environment.aws(folder, environment.make_bucket("warm-up-aws"))
    environment.syncer(folder, environment.make_bucket("warm-up-syncer"))


def measure_rescans(scratch: Path, count: int, rounds: int) -> None:
    """Print how many seconds both programs need for a folder without changes."""
    folder = scratch / "tiny"
    make_tiny(folder, count)
    figures: dict[str, list[float]] = {}
    with new_environment(scratch) as environment:
        environment.aws(folder, environment.make_bucket("aws"))
        environment.syncer(folder, environment.make_bucket("rescanned"), "--no-derivatives")
        print(f"\n{count} unchanged files, {describe_machine()}; seconds", flush=True)
        for _ in range(rounds):
            aws = environment.aws(folder, "aws")
            syncer = environment.syncer(folder, "rescanned", "--no-derivatives")
            record(figures, {AWS: aws, FULL: syncer, f"  / {AWS}": syncer / aws})
    print_medians(figures)


def measure_memory(scratch: Path, count: int) -> None:
    """Print the peak memory of a sync of *count* unchanged files, with as many rows of missing files."""
    folder, output = scratch / "many", scratch / "output"
    folder.mkdir()
    [picture] = make_pictures(scratch / "one", 1)
    shutil.copy(picture, folder)
    server = asyncio.run(embedded.start(scratch / "memory"))
    try:
        variables = {
            "DATABASE_URL": server.url,
            "IMAGE_BROWSER_HOME": str(scratch),
            "EMBEDDER": "offline",
            "OCR": "off",
        }
        syncer = Syncer(os.environ | variables)
        upload = ("upload", folder, "--bucket", "photos", "--json")
        run_and_measure(syncer, output, *upload)
        (folder / picture.name).unlink()
        link_many(folder, picture, count)
        record_files(server.url, folder, missing=count)
        began = time.perf_counter()
        status, peak = run_and_measure(syncer, output, *upload)
        seconds = time.perf_counter() - began
    finally:
        asyncio.run(server.release())
    assert status == 0, output.read_text()
    print(f"\n{count} unchanged and as many missing files: peak {peak / 1e6:.0f} MB, {seconds:.1f} s", flush=True)


def describe_machine() -> str:
    return f"{os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}"


def record(figures: dict[str, list[float]], values: dict[str, float]) -> None:
    for name, value in values.items():
        figures.setdefault(name, []).append(value)


def print_medians(figures: dict[str, list[float]]) -> None:
    """Print the median and all values of each figure."""
    for name, values in figures.items():
        print(
            f"{name:32} {statistics.median(values):8.2f}   {' '.join(f'{value:.2f}' for value in values)}", flush=True
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--short", action="store_true", help=f"use {SHORT}")
    parser.add_argument("--files", type=int, default=2000)
    parser.add_argument("--rescan", type=int, default=20_000)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--memory", type=int, default=200_000)
    if parser.parse_args().short:
        parser.set_defaults(**SHORT)
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
