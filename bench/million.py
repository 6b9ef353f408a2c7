"""A large collection of made vectors: load, build, search, filter, delete.

    python -m bench.million [--rows 1000000] [--index hnsw compact] [--home FOLDER] [--plots FOLDER]

The vectors have 768 dimensions and lie in well-separated clusters, which is hard for graphs. PostgreSQL runs below
--home (default: a temporary folder) with 1.5 GB of shared buffers. Searches take the server's path without HTTP: first
pages of 30, one or 16 at a time. Recall is that of their 30 images, compared with an exact scan by numpy. A million
rows take about an hour on two cores; 10,000 take half a minute.
"""

import argparse
import asyncio
import tempfile
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from functools import cached_property
from pathlib import Path
from typing import get_args

import numpy as np
import psutil
from numpy.typing import NDArray

from bench.plot import bar_chart
from server.search.query import Query
from server.search.ranking import RankedSearch
from shared.db import embedded, migrate
from shared.db.pool import Connection, Database
from shared.models import Collection, Filters, IndexKind
from shared.sql import collections, execute, images, vector_index
from shared.sql.filters import EVERYTHING

DIMENSIONS, CLUSTERS, SPREAD = 768, 4_000, 0.7
QUERIES, LIMIT, CLIENTS = 200, 30, 16
BATCH = 10_000
KEY_LENGTH = len("2024/05/0000001.jpg")
SETTINGS = {
    "shared_buffers": "1536MB",
    "effective_cache_size": "3GB",
    "max_wal_size": "8GB",
    "autovacuum": "off",  # the benchmark vacuums itself
}
# One image in 2, in 100 and in 10,000.
FILTERS = {
    "1 in 2": Filters(camera=("Common 1",)),
    "1 in 100": Filters(camera=("Uncommon",)),
    "1 in 10,000": Filters(camera=("Rare",)),
}
# PostgreSQL's binary COPY format of a row of {embeddings}.
ROW = np.dtype(
    [("columns", ">i2"), ("n1", ">i4"), ("id", ">i8"), ("n2", ">i4"), ("created_at", ">i8"), ("n3", ">i4")]
    + [
        ("dimensions", ">i2"),
        ("unused", ">i2"),
        ("vector", ">f2", (DIMENSIONS,)),
        ("n4", ">i4"),
        ("key", f"S{KEY_LENGTH}"),
    ]
)

Vectors = NDArray[np.float16]


def camera(number: NDArray[np.int64]) -> NDArray[np.str_]:
    """Return the cameras of the images, as the statement in ``load_images`` does."""
    common = np.where(number % 2 == 0, "Common 0", "Common 1")
    return np.where(number % 10_000 == 0, "Rare", np.where(number % 100 == 2, "Uncommon", common))


class MadeVectors:
    """Unit vectors around the centres of clusters; every batch can be made again."""

    def __init__(self, rows: int) -> None:
        self.rows = rows
        clusters = min(CLUSTERS, max(1, rows // 50))
        self._centres = np.random.default_rng(0).normal(size=(clusters, DIMENSIONS)).astype(np.float32)

    def batch(self, first: int, count: int) -> Vectors:
        rng = np.random.default_rng((1, first))
        vectors = self._centres[rng.integers(0, len(self._centres), count)]
        vectors += rng.normal(size=vectors.shape).astype(np.float32) * SPREAD
        return (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float16)

    def batches(self) -> Iterator[tuple[NDArray[np.int64], Vectors]]:
        """Yield the numbers and the vectors of all rows."""
        for first in range(0, self.rows, BATCH):
            numbers = np.arange(first, min(self.rows, first + BATCH))
            yield numbers, self.batch(first, len(numbers))

    @cached_property
    def queries(self) -> Vectors:
        return self.batch(-1 % 2**31, QUERIES)

    def nearest(self, admitted: Callable[[NDArray[np.int64]], NDArray[np.bool_]]) -> list[set[int]]:
        """Return the ids of the LIMIT nearest admitted rows of each query. Ids are numbers plus 1."""
        queries = self.queries.astype(np.float32)
        scores = np.empty((QUERIES, 0), dtype=np.float32)
        ids = np.empty((QUERIES, 0), dtype=np.int64)
        for numbers, vectors in self.batches():
            chosen = admitted(numbers)
            scores = np.hstack([scores, queries @ vectors[chosen].astype(np.float32).T])
            ids = np.hstack([ids, np.broadcast_to(numbers[chosen] + 1, (QUERIES, int(chosen.sum())))])
            best = np.argsort(-scores, axis=1)[:, :LIMIT]
            scores, ids = np.take_along_axis(scores, best, 1), np.take_along_axis(ids, best, 1)
        return [set(row.tolist()) for row in ids]


@dataclass(frozen=True)
class Result:
    """Milliseconds of an operation with one client and with CLIENTS, and the mean and the worst recall of searches."""

    name: str
    one: tuple[float, float]  # median and 99th percentile
    many: tuple[float, float]
    per_second: float
    recall: tuple[float, float] | None

    def __str__(self) -> str:
        recall = "" if self.recall is None else f"{self.recall[0]:.4f} ({self.recall[1]:.2f})"
        times = " | ".join(f"{value:.1f}" for value in (*self.one, *self.many))
        return f"| {self.name} | {times} | {self.per_second:.0f} | {recall} |"


HEADER = """
| | p50 ms | p99 ms | p50 ms, 16 clients | p99 ms, 16 clients | per second | recall@30 (worst) |
| --- | --- | --- | --- | --- | --- | --- |"""


class Bench:
    """The measurements of one collection."""

    def __init__(self, database: Database, collection: Collection, vectors: MadeVectors, seconds: float) -> None:
        self.seconds = seconds  # of each measurement
        self.database = database
        self.collection = collection
        self.vectors = vectors
        self.rows = vectors.rows

    async def search(self, name: str, filters: Filters = EVERYTHING, *, deleted: bool = False) -> Result:
        """Measure first pages of searches among the images that pass the filters and were not deleted."""

        def admitted(numbers: NDArray[np.int64]) -> NDArray[np.bool_]:
            chosen = np.ones(len(numbers), dtype=bool)
            if filters.camera:
                chosen &= camera(numbers) == filters.camera
            return chosen & ((numbers + 1) % 10 != 0) if deleted else chosen

        expected = self.vectors.nearest(admitted)
        found: dict[int, set[int]] = {}

        async def page(number: int) -> None:
            query = Query(self.vectors.queries[number].astype(np.float32), str(number))
            search = RankedSearch(self.collection, query, filters, None, strict=False, embedded=self.rows)
            hits, _ = await search.page(self.database, None, None, limit=LIMIT)
            found[number] = {hit.image.id for hit in hits}

        result = await self.measure(name, page)
        recalls = [len(found[number] & expected[number]) / max(1, len(expected[number])) for number in found]
        return replace(result, recall=(float(np.mean(recalls)), min(recalls)))

    async def measure(self, name: str, operation: Callable[[int], Awaitable[object]]) -> Result:
        """Measure an operation, which gets the number of a query, after a run through all queries."""
        for number in range(QUERIES):
            await operation(number)
        one, _ = await self._measure(operation, 1)
        many, per_second = await self._measure(operation, CLIENTS)
        return Result(name, one, many, per_second, None)

    async def _measure(
        self, operation: Callable[[int], Awaitable[object]], clients: int
    ) -> tuple[tuple[float, float], float]:
        times: list[float] = []
        begin = time.perf_counter()

        async def client(first: int) -> None:
            number = first
            while (started := time.perf_counter()) < begin + self.seconds:
                await operation(number % QUERIES)
                times.append((time.perf_counter() - started) * 1000)
                number += clients

        await asyncio.gather(*(client(number) for number in range(clients)))
        per_second = len(times) / (time.perf_counter() - begin)
        return (float(np.median(times)), float(np.percentile(times, 99))), per_second

    async def recent(self, _number: int) -> None:
        await self.database.read(images.list_sorted, self.collection, sort="-created", limit=LIMIT)

    async def months(self, _number: int) -> None:
        statement = "SELECT date_trunc('month', taken_at), count(*) FROM {images} WHERE taken_at IS NOT NULL GROUP BY 1"
        await self.database.read(execute, self.collection, statement)

    async def run_statement(self, statement: str) -> float:
        """Run a statement outside a transaction; return its seconds."""
        started = time.perf_counter()
        await self.database.run_autocommit(execute, self.collection, statement)
        return time.perf_counter() - started

    async def build(self, kind: IndexKind) -> float:
        """Build the index with the options of `syncer sync`, and let searches use it; return the seconds."""
        self.collection = replace(self.collection, index_kind=kind)
        memory, workers = psutil.virtual_memory().total // 4, (psutil.cpu_count() or 1) - 1
        started = time.perf_counter()
        await self.database.run_autocommit(
            vector_index.build, self.collection, rows=self.rows, memory=memory, workers=workers
        )
        elapsed = time.perf_counter() - started
        await self.database.run(vector_index.choose, self.collection)
        await self.database.run_autocommit(vector_index.drop_others, self.collection)
        await self.run_statement("VACUUM (ANALYZE) {embeddings}")
        return elapsed

    async def bytes_per_image(self) -> dict[str, float]:
        """Return the bytes of each table and index of the collection per image, largest first."""

        async def sizes(conn: Connection) -> dict[str, float]:
            statement = """
                SELECT relname, pg_relation_size(oid) FROM pg_class
                 WHERE relname LIKE 'million\\_%' AND relkind IN ('r', 'i') ORDER BY 2 DESC
            """
            found = await (await conn.execute(statement)).fetchall()
            return {name.removeprefix("million_"): size / self.rows for name, size in found}

        return await self.database.read(sizes)


async def load(database: Database, vectors: MadeVectors) -> Collection:
    """Fill a collection without an index."""
    await database.run(migrate.migrate)
    now = datetime.now(UTC)
    collection = await database.run(
        collections.ensure, bucket="million", model="offline-made", dimensions=DIMENSIONS, now=now
    )
    await database.run_autocommit(vector_index.drop, collection)
    for numbers, batch in vectors.batches():
        await database.run(load_images, collection, int(numbers[0]), int(numbers[-1]))
        await database.run(load_vectors, collection, numbers, batch)
    for table in ("{images}", "{embeddings}"):
        await database.run_autocommit(execute, collection, f"VACUUM (ANALYZE) {table}")
    return collection


async def load_images(conn: Connection, collection: Collection, first: int, last: int) -> None:
    """Add images that resemble those of a camera: one every five minutes, in the order of their keys."""
    statement = """
        INSERT INTO {images} (r2_key, created_at, origin, sha256, size, content_type, width, height, placeholder,
                              derivatives, truncated, keywords, taken_local, taken_offset, camera)
        SELECT '2024/05/' || lpad(n::text, 7, '0') || '.jpg', timestamptz '2024-01-01 UTC' + n * interval '1 second',
               'folder', sha256(n::text::bytea), 2000000 + n * 7919 %% 3000000, 'image/jpeg', 4000, 3000,
               decode(repeat('A', 120), 'base64'), true, false, '{{}}',
               timestamp '2015-01-01' + n * interval '5 minutes', 0,
               CASE WHEN n %% 10000 = 0 THEN 'Rare' WHEN n %% 100 = 2 THEN 'Uncommon' ELSE 'Common ' || n %% 2 END
          FROM generate_series(%s::bigint, %s::bigint) AS n
    """
    await execute(conn, collection, statement, [first, last])


async def load_vectors(conn: Connection, collection: Collection, numbers: NDArray[np.int64], batch: Vectors) -> None:
    rows = np.zeros(len(numbers), dtype=ROW)
    rows["columns"], rows["n1"], rows["n2"], rows["n3"], rows["n4"] = 4, 8, 8, 4 + 2 * DIMENSIONS, KEY_LENGTH
    rows["id"], rows["dimensions"], rows["vector"] = numbers + 1, DIMENSIONS, batch
    since_2000 = timedelta(days=8766) // timedelta(microseconds=1)  # to 2024-01-01
    rows["created_at"] = since_2000 + numbers * 1_000_000
    rows["key"] = [f"2024/05/{number:07}.jpg" for number in numbers]
    statement = "COPY million_embeddings (id, created_at, embedding, r2_key) FROM STDIN (FORMAT binary)"
    async with conn.cursor() as cur, cur.copy(statement) as copy:
        await copy.write(b"PGCOPY\n\xff\r\n\0" + bytes(8) + rows.tobytes() + b"\xff\xff")


def server_memory(home: Path) -> float:
    """Return the resident memory of all processes of PostgreSQL in MB, each shared page counted once."""
    pid = int((home / "postgresql" / "data" / "postmaster.pid").read_text().split()[0])
    postmaster = psutil.Process(pid)
    return sum(process.memory_full_info().pss for process in [postmaster, *postmaster.children()]) / 1e6


async def run(arguments: argparse.Namespace, home: Path) -> None:
    rows, plots = arguments.rows, arguments.plots
    postgres = await embedded.start(home, settings=SETTINGS)
    database = Database(postgres.url, max_connections=CLIENTS, retry_timeout=0)
    await database.open()
    vectors = MadeVectors(rows)
    started = time.perf_counter()
    bench = Bench(database, await load(database, vectors), vectors, arguments.seconds)
    print(f"{rows:,} images loaded in {time.perf_counter() - started:.0f} s")
    times: dict[str, dict[str, float]] = {}
    sizes: dict[str, dict[str, float]] = {}
    for kind in arguments.index:
        seconds = await bench.build(kind)
        size = await bench.bytes_per_image()
        print(f"\n{kind}: built in {seconds:.0f} s, {seconds / rows * 10_000:.1f} s per 10,000;", end=" ")
        print(f"{sum(size.values()):,.0f} bytes per image; PostgreSQL {server_memory(home):,.0f} MB\n{HEADER}")
        results = [await bench.search("all")] + [await bench.search(name, each) for name, each in FILTERS.items()]
        for result in results:
            print(result)
            times[f"{kind}, {result.name}"] = {"p50, 1 client": result.one[0]}
        sizes[kind] = {"vectors": size["embeddings"], "index": size[kind]}
        sizes[kind]["other"] = sum(size.values()) - sum(sizes[kind].values())
    for result in (await bench.measure("recent", bench.recent), await bench.measure("month counts", bench.months)):
        print(result)
    seconds = await bench.run_statement("DELETE FROM {images} WHERE id % 10 = 0")
    print(await bench.search("a tenth deleted", deleted=True))
    vacuum = await bench.run_statement("VACUUM {embeddings}")
    print(await bench.search("vacuumed", deleted=True))
    print(f"\ndeleting took {seconds:.0f} s, the vacuum {vacuum:.0f} s")
    print("\n".join(f"| {name} | {size:,.1f} |" for name, size in (await bench.bytes_per_image()).items() if size >= 1))
    if plots:
        title = f"{rows:,} images"
        (plots / "million-search.svg").write_text(bar_chart(f"First page of a search, {title}", "ms", times))
        (plots / "million-bytes.svg").write_text(bar_chart(f"PostgreSQL, bytes per image, {title}", "bytes", sizes))
    await database.close()
    await postgres.release()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--index", nargs="+", choices=get_args(IndexKind), default=["hnsw", "compact"])
    parser.add_argument("--seconds", type=float, default=5, help="duration of each measurement")
    parser.add_argument("--home", type=Path, help="folder of the database, kept afterwards")
    parser.add_argument("--plots", type=Path, help="folder for plots as SVG")
    arguments = parser.parse_args()
    with ExitStack() as stack:
        home = arguments.home or Path(stack.enter_context(tempfile.TemporaryDirectory(ignore_cleanup_errors=True)))
        asyncio.run(run(arguments, home))


if __name__ == "__main__":
    main()
