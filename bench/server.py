"""Overhead of the server in a search: `python -m bench.server`.

Text queries with cached vectors over 10,000 images of 768 dimensions, in a PostgreSQL of its own. The server is
compared with a bare handler: Starlette, the same pool, the same ranking statement, the same JSON, and nothing else. The
ranking statement alone is the lower bound of both.

On a busy machine, processor time says what rates do not.
"""

import asyncio
import hashlib
import os
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import cycle
from pathlib import Path

import aiohttp
import numpy as np
import psutil
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from server.schemas import responses
from server.search.terms import normalise
from shared.db import embedded
from shared.db.pool import Database
from shared.sql import collections, query_vectors, vector_search
from shared.sql.vector_search import VectorQuery
from shared.stores.folder import FolderStore
from tests.helpers.filled_collections import fill_database, unit_vectors
from tests.helpers.ports import free_port

IMAGES, DIMENSIONS = 10_000, 768
MODEL = "replicate:openai/clip"
TEXTS = 300
EF_SEARCH = vector_search.choose_ef_search(IMAGES, 31)
PATH = "/api/search?bucket=b&q=a+street+at+night+"  # followed by a number
ROUNDS, SECONDS = 3, 4  # per contender, with 1 and with 16 clients


def text_vectors() -> list[list[float]]:
    """Return the vectors of the texts."""
    vectors: list[list[float]] = unit_vectors(TEXTS, DIMENSIONS, seed=2).astype(float).tolist()
    return vectors


def bare() -> Starlette:
    """Return the application with the bare handler."""
    database = Database(os.environ["DATABASE_URL"], max_connections=10, retry_timeout=0)
    store = FolderStore(Path("nowhere"), "b", threads=1)
    vectors = text_vectors()

    async def handler(request: Request) -> Response:
        vector = vectors[int(request.query_params["q"].rpartition(" ")[2])]
        collection = request.app.state.collection
        hits, _ = await database.read(
            vector_search.search, collection, VectorQuery(vector), limit=31, ef_search=EF_SEARCH
        )
        images = [responses.hit_item(hit, store, None) for hit in hits[:30]]
        return JSONResponse({"images": images, "next_cursor": "x" * 220})

    @asynccontextmanager
    async def lifespan(app: Starlette) -> AsyncIterator[None]:
        await database.open()
        app.state.collection = await database.run(collections.find, bucket="b")
        yield
        await database.close()

    return Starlette(routes=[Route("/api/search", handler)], lifespan=lifespan)


@dataclass(frozen=True)
class Contender:
    """A running server."""

    name: str
    process: "subprocess.Popen[bytes]"
    url: str

    def measure(self, clients: int) -> tuple[float, float, float]:
        """Return requests per second, their 99th percentile, and processor time per request, both in milliseconds."""
        before = self._processor_seconds()
        latencies = asyncio.run(send_requests(self.url, clients))
        processor = (self._processor_seconds() - before) * 1000 / len(latencies)
        return len(latencies) / SECONDS, float(np.percentile(latencies, 99)), processor

    def _processor_seconds(self) -> float:
        times = psutil.Process(self.process.pid).cpu_times()
        return float(times.user + times.system)


@contextmanager
def running(name: str, command: list[str], port: int, environment: dict[str, str]) -> Iterator[Contender]:
    """Run a server during the block, once it has answered every query."""
    url = f"http://127.0.0.1:{port}{PATH}"
    with subprocess.Popen([sys.executable, *command, str(port)], env=environment, stderr=subprocess.DEVNULL) as process:
        try:
            while True:
                with suppress(urllib.error.URLError, ConnectionError):
                    for text in range(TEXTS):
                        urllib.request.urlopen(f"{url}{text}", timeout=10).read()
                    break
                time.sleep(0.1)
            yield Contender(name, process, url)
        finally:
            process.terminate()


async def send_requests(url: str, clients: int) -> list[float]:
    """Send requests for SECONDS; return the milliseconds of each."""
    latencies: list[float] = []
    numbers = cycle(range(TEXTS))
    end = time.perf_counter() + SECONDS

    async def client(session: aiohttp.ClientSession) -> None:
        while (started := time.perf_counter()) < end:
            async with session.get(f"{url}{next(numbers)}") as response:
                response.raise_for_status()
                await response.read()
            latencies.append((time.perf_counter() - started) * 1000)

    async with aiohttp.ClientSession() as session:
        await asyncio.gather(*(client(session) for _ in range(clients)))
    return latencies


async def prepare(url: str) -> None:
    """Fill the collection, and store the vectors of the texts as if they had been searched for."""
    await fill_database(url, "b", MODEL, unit_vectors(IMAGES, DIMENSIONS, seed=1))
    database = Database(url, max_connections=1, retry_timeout=0)
    await database.open()
    now = datetime.now(UTC)
    for number, vector in enumerate(text_vectors()):
        text = urllib.parse.parse_qs(PATH.partition("?")[2] + str(number))["q"][0]
        digest = hashlib.sha256(normalise(text).encode()).digest()
        await database.run(query_vectors.save, model=MODEL, digest=digest, vector=vector, now=now)
    await database.close()


async def statement_times(url: str) -> list[float]:
    """Return the milliseconds of the ranking statement alone for each text."""
    database = Database(url, max_connections=1, retry_timeout=0)
    await database.open()
    collection = await database.run(collections.find, bucket="b")
    assert collection is not None
    times = []
    for vector in text_vectors():
        started = time.perf_counter()
        await database.read(vector_search.search, collection, VectorQuery(vector), limit=31, ef_search=EF_SEARCH)
        times.append((time.perf_counter() - started) * 1000)
    await database.close()
    return times


def main() -> None:
    # PostgreSQL stops soon after its release, and may still be writing.
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as home:
        postgres = asyncio.run(embedded.start(Path(home)))
        try:
            asyncio.run(prepare(postgres.url))
            environment = os.environ | {
                "DATABASE_URL": postgres.url,
                "IMAGE_BROWSER_HOME": home,
                "REPLICATE_API_TOKEN": "never used",
            }
            bare_command = ["-m", "uvicorn", "--factory", "bench.server:bare", "--no-access-log", "--port"]
            with (
                running("server", ["-m", "server", "--port"], free_port(), environment) as ours,
                running("bare handler", bare_command, free_port(), environment) as other,
            ):
                times = asyncio.run(statement_times(postgres.url))
                median, p99 = np.median(times), np.percentile(times, 99)
                print(f"the ranking statement alone: median {median:.2f} ms, p99 {p99:.2f} ms\n")
                print(f"{TEXTS} texts in turn")
                for clients in (1, 16):
                    compare(ours, other, clients)
        finally:
            asyncio.run(postgres.release())


def compare(ours: Contender, other: Contender, clients: int) -> None:
    rounds = np.array([(ours.measure(clients), other.measure(clients)) for _ in range(ROUNDS)])
    print(f"  {clients} client{'s' if clients > 1 else ''}, {ROUNDS} rounds of {SECONDS} s each:")
    for contender, (rate, p99, processor) in zip((ours, other), np.median(rounds, axis=0), strict=True):
        print(f"    {contender.name:12}  {rate:7.1f}/s   p99 {p99:6.2f} ms   processor {processor:5.2f} ms per request")
    ratio = np.median(rounds[:, 0, 0] / rounds[:, 1, 0])
    print(f"    rate of the server relative to the bare handler: {ratio:.2f}")


if __name__ == "__main__":
    main()
