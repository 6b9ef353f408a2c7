"""Syncers at once on one queue: `python -m bench.scaling`.

The first table runs 1, 2, 4 and 8 `syncer embed` processes on the images of one collection, with a fake Replicate that
answers each call after 200 ms: three calls at once allow each syncer 15 images a second. The second table leaves out
the model: processes claim images and store vectors as fast as they can, which shows where the database becomes the
limit.
"""

import argparse
import asyncio
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from contextlib import ExitStack
from datetime import UTC, datetime, timedelta
from pathlib import Path
from uuid import uuid4

import numpy as np
import psycopg

from bench.replicate import fake_replicate
from shared.db import embedded, migrate
from shared.db.pool import Connection, Database
from shared.models import Collection, NewImage
from shared.sql import collections, images, queue
from tests.helpers.pictures import make_pictures

PROCESSES = (1, 2, 4, 8)
LATENCY = 0.2  # seconds per call
IDEAL = 3 / LATENCY  # images per second and syncer
IMAGES_PER_SYNCER = 90
QUEUED = 3000  # images without a model
BATCH = 32
BUCKET = "scaling"


def query(url: str, statement: str) -> list[tuple[int, ...]]:
    with psycopg.connect(url, autocommit=True) as conn:
        cursor = conn.execute(statement.encode())
        return cursor.fetchall() if cursor.description else []


def pending(url: str) -> int:
    return query(url, f"SELECT count(*) FROM {BUCKET}_queue")[0][0]  # noqa: S608 - a constant


def refill(url: str, count: int) -> None:
    """Queue the first *count* images again, and no others."""
    query(url, f"DELETE FROM {BUCKET}_queue")  # noqa: S608 - a constant
    query(url, f"UPDATE {BUCKET}_embeddings SET embedding = NULL")  # noqa: S608 - a constant
    query(
        url,
        f"INSERT INTO {BUCKET}_queue (id, model, due_at) SELECT id, model, now()"  # noqa: S608 - a constant
        f" FROM {BUCKET}_images, collections WHERE bucket = '{BUCKET}' ORDER BY id LIMIT {count}",
    )
    query(url, f"VACUUM ANALYZE {BUCKET}_embeddings, {BUCKET}_queue")


def measure(url: str, commands: Sequence[Sequence[str]], environment: dict[str, str]) -> float:
    """Run *commands* at once and return the images per second, from the first tenth of the queue to the last."""
    total = pending(url)
    with ExitStack() as stack:
        for command in commands:
            process = subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
            stack.callback(process.wait)
        marks = []
        for left in (0.9 * total, 0.1 * total):
            while (now := pending(url)) > left:
                time.sleep(0.02)
            marks.append((now, time.perf_counter()))
    (first, began), (last, ended) = marks
    return (first - last) / (ended - began)


def measure_syncers(url: str, home: Path, replicate_url: str) -> None:
    environment = dict(os.environ) | {
        "DATABASE_URL": url,
        "IMAGE_BROWSER_HOME": str(home),
        "EMBEDDER": "replicate",
        "OCR": "off",
        "REPLICATE_API_TOKEN": "r8_fake",
        "REPLICATE_BASE_URL": replicate_url,
    }
    folder = home / "photos"
    make_pictures(folder, IMAGES_PER_SYNCER * max(PROCESSES))
    syncer = [sys.executable, "-m", "syncer"]
    subprocess.run(
        [*syncer, "upload", str(folder), "--bucket", BUCKET], env=environment, check=True, capture_output=True
    )
    print(f"{'syncers':>10} {'images/s':>9} {'of ideal':>9}")
    for number in PROCESSES:
        refill(url, IMAGES_PER_SYNCER * number)
        rate = measure(url, [[*syncer, "embed", "--bucket", BUCKET]] * number, environment)
        print(f"{number:10} {rate:9.1f} {rate / number / IDEAL:9.2f}", flush=True)


async def fill(conn: Connection) -> None:
    await migrate.migrate(conn)
    now = datetime.now(UTC)
    collection = await collections.ensure(conn, BUCKET, model="replicate:openai/clip", dimensions=768, now=now)
    new = [
        (NewImage(f"{number}.jpg", number.to_bytes(32), 1, "image/jpeg", 1, 1, "folder"), now)
        for number in range(QUEUED)
    ]
    await images.add_many(conn, collection, new)


async def work(url: str) -> None:
    """Claim images and store random vectors until the queue is empty."""
    database = Database(url, max_connections=1, retry_timeout=5)
    await database.open()
    found = await database.run(collections.find, BUCKET)
    assert found is not None
    collection: Collection = found
    rng = np.random.default_rng(os.getpid())
    minute = timedelta(minutes=1)
    while jobs := await database.run(queue.claim, collection, lease=uuid4(), limit=BATCH, duration=minute):
        for job in jobs:
            vector = rng.normal(size=768)
            await database.run(queue.complete, collection, job, (vector / np.linalg.norm(vector)).tolist())
    await database.close()


def measure_queue(url: str) -> None:
    asyncio.run(_in_transaction(url))
    single = 0.0
    print(f"\n{'processes':>10} {'images/s':>9} {'of one':>9}")
    for number in PROCESSES:
        refill(url, QUEUED)
        rate = measure(url, [[sys.executable, "-m", "bench.scaling", "--work", url]] * number, dict(os.environ))
        single = single or rate
        print(f"{number:10} {rate:9.1f} {rate / single:9.2f}", flush=True)


async def _in_transaction(url: str) -> None:
    async with await psycopg.AsyncConnection.connect(url) as conn:
        await fill(conn)


async def main() -> None:
    for number in range(2):
        with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
            server = await embedded.start(Path(folder))
            try:
                if number == 0:
                    with fake_replicate(LATENCY) as replicate_url:
                        await asyncio.to_thread(measure_syncers, server.url, Path(folder), replicate_url)
                else:
                    await asyncio.to_thread(measure_queue, server.url)
            finally:
                await server.release()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--work", metavar="URL", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    asyncio.run(work(arguments.work) if arguments.work else main())
