"""Searches over HTTP against a bare handler and in-process libraries: `python -m bench.search`.

Text queries with stored vectors over made collections of 768 dimensions, in a PostgreSQL of their own, while another
connection writes rows. The peers are Starlette with psycopg and the same scan of the HNSW index, prepared, and nothing
else: one answers with ids, keys and scores, the other with whole images. ``hnswlib`` and ``faiss-cpu`` search the same
vectors in memory, at no lower recall; install them with `uv pip install --group bench`.

    python -m bench.search                  10,000 images
    python -m bench.search --rows 100000
    python -m bench.search --workers 2      two processes for each contender
    python -m bench.search --recall         recall for four kinds of vectors instead
    python -m bench.search --json           the results as JSON
"""

import argparse
import asyncio
import hashlib
import json
import os
import subprocess
import sys
import tempfile
import threading
import time
import urllib.error
import urllib.request
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import ExitStack, asynccontextmanager, contextmanager, suppress
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from itertools import count, cycle
from pathlib import Path
from typing import LiteralString

import aiohttp
import numpy as np
import psycopg
import psycopg_pool
from numpy.typing import NDArray
from psycopg.rows import dict_row
from pydantic_core import to_json
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from bench import made_vectors
from server.search.terms import normalise
from shared.db import embedded
from shared.db.pool import Database
from shared.sql import collections, query_vectors, vector_search, vector_text
from shared.sql.images import EMBEDDED_IMAGE_COLUMNS
from shared.sql.vector_search import VectorQuery
from tests.helpers.filled_collections import BEGIN, fill_database
from tests.helpers.ports import free_port

MODEL = "replicate:openai/clip"
TEXTS, LIMIT, RECALL_AT = 300, 30, 30
ROUNDS, SECONDS = 5, 2.0  # per contender, in turn
KIND = "CLIP-like"
POSTGRES = {"shared_buffers": "1GB", "maintenance_work_mem": "1GB"}

NEAREST: LiteralString = """
    SELECT id, r2_key, embedding <#> %(vector)s::halfvec AS distance FROM b_embeddings WHERE embedding IS NOT NULL
     ORDER BY embedding <#> %(vector)s::halfvec LIMIT 31
"""
# Statements of bare handlers.
PEERS: dict[str, LiteralString] = {
    "ids": NEAREST,
    "images": f"""
        WITH nearest AS MATERIALIZED ({NEAREST})
        SELECT {EMBEDDED_IMAGE_COLUMNS}, distance FROM nearest JOIN b_images AS i USING (id) ORDER BY distance
    """,  # noqa: S608 - constants
}


@dataclass(frozen=True)
class Result:
    """One row of the table: a figure of ours, that of the peer, and their ratio."""

    name: str
    unit: str
    ours: float
    peer: float | None = None

    @property
    def ratio(self) -> float | None:
        return self.ours / self.peer if self.peer else None


def bare() -> Starlette:
    """Return the application with the bare handler that BENCH_PEER names."""
    statement = PEERS[os.environ["BENCH_PEER"]]
    vectors = json.loads(Path(os.environ["BENCH_VECTORS"]).read_text())
    ef_search = os.environ["BENCH_EF_SEARCH"]
    pool = psycopg_pool.AsyncConnectionPool(
        os.environ["DATABASE_URL"],
        min_size=10,
        open=False,
        kwargs={"autocommit": True, "row_factory": dict_row, "options": f"-c hnsw.ef_search={ef_search}"},
    )

    async def handler(request: Request) -> Response:
        vector = vectors[int(request.query_params["q"].rpartition(" ")[2])]
        async with pool.connection() as conn:
            images = await (await conn.execute(statement, {"vector": vector})).fetchall()
        content = to_json({"images": images[:LIMIT]}, bytes_mode="base64")
        return Response(content, media_type="application/json")

    @asynccontextmanager
    async def lifespan(app: Starlette) -> AsyncIterator[None]:
        async with pool:
            yield

    return Starlette(routes=[Route("/api/search", handler)], lifespan=lifespan)


@contextmanager
def running(command: list[str], environment: dict[str, str]) -> Iterator[str]:
    """Run a server during the block; yield the address of its searches once it has answered all of them."""
    port = free_port()
    url = f"http://127.0.0.1:{port}/api/search?bucket=b&q=a+street+at+night+"
    with subprocess.Popen(
        [sys.executable, *command, "--port", str(port)], env=environment, stderr=subprocess.DEVNULL
    ) as process:
        try:
            while True:
                with suppress(urllib.error.URLError, ConnectionError):
                    for number in range(TEXTS):
                        urllib.request.urlopen(f"{url}{number}", timeout=10).read()
                    break
                time.sleep(0.1)
            yield url
        finally:
            process.terminate()


async def measure(url: str, clients: int) -> NDArray[np.float64]:
    """Search for SECONDS with so many clients; return the milliseconds of each request."""
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
    return np.array(latencies)


@contextmanager
def writing(url: str) -> Iterator[None]:
    """Add an image with its vector, and delete it again, some fifty times a second during the block."""
    stop = threading.Event()
    vectors = [vector_text(each.astype(float).tolist()) for each in made_vectors.KINDS[KIND](100, 1)[0]]
    insert_image = """
        INSERT INTO b_images (r2_key, created_at, origin, sha256, size, content_type, width, height, derivatives,
                              truncated, keywords)
        VALUES (%s, %s, 'folder', '', 1, 'image/jpeg', 1, 1, false, false, '{}') RETURNING id
    """

    def write() -> None:
        with psycopg.connect(url, autocommit=True) as conn:
            for number in count():
                if stop.wait(0.02):
                    return
                key = f"written/{number}"
                with conn.transaction():
                    row = conn.execute(insert_image, [key, BEGIN]).fetchone()
                    assert row is not None
                    values = [row[0], key, vectors[number % 100], BEGIN]
                    conn.execute(
                        "INSERT INTO b_embeddings (id, r2_key, embedding, created_at) VALUES (%s, %s, %s, %s)", values
                    )
                conn.execute("DELETE FROM b_images WHERE id = %s", [row[0]])

    thread = threading.Thread(target=write)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()


async def prepare(url: str, vectors: made_vectors.Vectors, texts: made_vectors.Vectors) -> None:
    """Fill the collection, and store the vectors of the texts as if they had been searched."""
    await fill_database(url, "b", MODEL, vectors)
    database = Database(url, max_connections=1, retry_timeout=0)
    await database.open()
    for number, vector in enumerate(texts.astype(float).tolist()):
        digest = hashlib.sha256(normalise(f"a street at night {number}").encode()).digest()
        await database.run(query_vectors.save, MODEL, digest, vector, now=datetime.now(UTC))
    await database.close()


def compare(url: str, home: str, texts: made_vectors.Vectors, *, ef_search: int | None, workers: int) -> list[Result]:
    """Return rates and latencies of the server and the bare handlers, measured in turn."""
    files = Path(home) / "vectors.json"
    files.write_text(json.dumps([vector_text(each) for each in texts.astype(float).tolist()]))
    environment = os.environ | {
        "DATABASE_URL": url,
        "IMAGE_BROWSER_HOME": home,
        "REPLICATE_API_TOKEN": "never used",
        "BENCH_VECTORS": str(files),
        "BENCH_EF_SEARCH": str(ef_search or 100),
    }
    results = []
    bare_command = ["-m", "uvicorn", "--factory", "bench.search:bare", "--no-access-log", "--workers", str(workers)]
    with ExitStack() as stack:
        contenders = [stack.enter_context(running(["-m", "server", "--workers", str(workers)], environment))]
        for peer in PEERS:
            contenders.append(stack.enter_context(running(bare_command, environment | {"BENCH_PEER": peer})))
        stack.enter_context(writing(url))
        for clients in (1, 16):
            rounds = [[asyncio.run(measure(each, clients)) for each in contenders] for _ in range(ROUNDS)]
            for name, unit, of in FIGURES:
                ours, *others = np.median([[of(each) for each in contended] for contended in rounds], axis=0)
                for peer, figure in zip(PEERS, others, strict=True):
                    what = f"{name}, {clients} client{'s' * (clients > 1)}, peer answers {peer}"
                    results.append(Result(what, unit, float(ours), float(figure)))
    return results


FIGURES: list[tuple[str, str, Callable[[NDArray[np.float64]], float]]] = [
    ("rate", "/s", lambda latencies: len(latencies) / SECONDS),
    ("p50", "ms", lambda latencies: float(np.median(latencies))),
    ("p99", "ms", lambda latencies: float(np.percentile(latencies, 99))),
]


async def search_all(url: str, texts: made_vectors.Vectors, rows: int) -> tuple[NDArray[np.int64], float]:
    """Return the positions that the index finds for each text, and searches per second on one connection."""
    database = Database(url, max_connections=1, retry_timeout=0)
    await database.open()
    collection = await database.run(collections.find, "b")
    assert collection is not None
    ef_search = vector_search.choose_ef_search(rows, LIMIT + 1)
    queries = [VectorQuery(vector) for vector in texts.astype(float).tolist()]
    first = int(
        (await (await database.run(lambda conn: conn.execute("SELECT min(id) FROM b_images"))).fetchall())[0][0]
    )
    found = []
    started = time.perf_counter()
    for query in queries:
        ranking, _ = await database.read(vector_search.rank, collection, query, limit=LIMIT + 1, ef_search=ef_search)
        found.append([image_id - first for image_id in ranking.ids[:LIMIT]])
    rate = len(queries) / (time.perf_counter() - started)
    await database.close()
    return np.array(found), rate


def recalls(
    found: NDArray[np.int64], vectors: made_vectors.Vectors, texts: made_vectors.Vectors
) -> NDArray[np.float64]:
    """Return the recall at RECALL_AT of each text. An image as near as the last one counts: scores can be equal."""
    scores = texts.astype(np.float32) @ vectors.astype(np.float32).T
    last = np.partition(scores, -RECALL_AT, axis=1)[:, -RECALL_AT]
    recall: NDArray[np.float64] = (np.take_along_axis(scores, found, axis=1) >= last[:, None] - 2e-4).mean(axis=1)
    return recall


def libraries(vectors: made_vectors.Vectors, texts: made_vectors.Vectors, recall: float, rate: float) -> list[Result]:
    """Return our searches per second on one connection, *rate*, against in-process libraries of at least *recall*."""
    results = []
    for name, build in (("hnswlib", _hnswlib), ("faiss", _faiss)):
        try:
            search = build(vectors.astype(np.float32))
        except ImportError as exc:
            print(f"{name} is left out: {exc}; `uv pip install --group bench` installs it", file=sys.stderr)
            continue
        for ef_search in (30, 40, 60, 80, 120, 160, 240, 320, 480, 640, 1000):
            started = time.perf_counter()
            found = np.array([search(text, ef_search) for text in texts.astype(np.float32)])
            elapsed = time.perf_counter() - started
            if recalls(found, vectors, texts).mean() >= recall:
                break
        results.append(Result(f"searches on one core, peer {name}", "/s", rate, len(texts) / elapsed))
    return results


Search = Callable[[NDArray[np.float32], int], NDArray[np.int64]]


def _hnswlib(vectors: NDArray[np.float32]) -> Search:
    import hnswlib

    index = hnswlib.Index(space="ip", dim=vectors.shape[1])
    index.init_index(len(vectors), M=16, ef_construction=200)
    index.add_items(vectors)
    index.set_num_threads(1)

    def search(text: NDArray[np.float32], ef_search: int) -> NDArray[np.int64]:
        index.set_ef(ef_search)
        found: NDArray[np.int64] = index.knn_query(text, k=RECALL_AT)[0][0].astype(np.int64)
        return found

    return search


def _faiss(vectors: NDArray[np.float32]) -> Search:
    import faiss

    index = faiss.IndexHNSWFlat(vectors.shape[1], 16, faiss.METRIC_INNER_PRODUCT)
    index.hnsw.efConstruction = 200
    index.add(vectors)
    faiss.omp_set_num_threads(1)

    def search(text: NDArray[np.float32], ef_search: int) -> NDArray[np.int64]:
        index.hnsw.efSearch = ef_search
        found: NDArray[np.int64] = index.search(text[None], RECALL_AT)[1][0]
        return found

    return search


@contextmanager
def filled(kind: str, rows: int) -> Iterator[tuple[str, str, made_vectors.Vectors, made_vectors.Vectors]]:
    """Yield the URL and home of a PostgreSQL with so many images of *kind*, their vectors and those of the texts."""
    vectors, texts = made_vectors.KINDS[kind](rows, TEXTS)
    # PostgreSQL stops soon after its release, and may still be writing.
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as home:
        postgres = asyncio.run(embedded.start(Path(home), settings=POSTGRES))
        try:
            asyncio.run(prepare(postgres.url, vectors, texts))
            yield postgres.url, home, vectors, texts
        finally:
            asyncio.run(postgres.release())


def run_search(rows: int, workers: int) -> list[Result]:
    with filled(KIND, rows) as (url, home, vectors, texts):
        found, rate = asyncio.run(search_all(url, texts, rows))
        recall = recalls(found, vectors, texts)
        results = [Result(f"recall at {RECALL_AT}", "", float(recall.mean()))]
        ef_search = vector_search.choose_ef_search(rows, LIMIT + 1)
        results += compare(url, home, texts, ef_search=ef_search, workers=workers)
        return results + libraries(vectors, texts, float(recall.mean()), rate)


def run_recall(rows: int) -> list[Result]:
    results = []
    for kind in made_vectors.KINDS:
        with filled(kind, rows) as (url, _, vectors, texts):
            found, rate = asyncio.run(search_all(url, texts, rows))
            recall = recalls(found, vectors, texts)
            results.append(Result(f"{kind}: recall at {RECALL_AT}, mean", "", float(recall.mean())))
            results.append(Result(f"{kind}: worst of {TEXTS}", "", float(recall.min())))
            results.append(Result(f"{kind}: rate on one connection", "/s", rate))
    return results


def main() -> None:
    parser = argparse.ArgumentParser(description="Searches over HTTP against a bare handler and in-process libraries.")
    parser.add_argument("--rows", type=int, default=10_000, help="images (10000)")
    parser.add_argument("--workers", type=int, default=1, help="processes of the server and of its peers (1)")
    parser.add_argument("--recall", action="store_true", help="measure the recall for four kinds of vectors instead")
    parser.add_argument("--json", action="store_true", help="print JSON")
    arguments = parser.parse_args()
    results = run_recall(arguments.rows) if arguments.recall else run_search(arguments.rows, arguments.workers)
    if arguments.json:
        print(json.dumps([asdict(each) | {"ratio": each.ratio} for each in results]))
        return
    print(f"{arguments.rows:,} images\n")
    print(f"{'':48} {'ours':>10} {'peer':>10} {'ratio':>6}")
    for each in results:
        peer, ratio = (f"{each.peer:10.2f}", f"{each.ratio:6.2f}") if each.peer else ("", "")
        print(f"{each.name:48} {each.ours:10.4g} {peer:>10} {ratio:>6} {each.unit}")


if __name__ == "__main__":
    main()
