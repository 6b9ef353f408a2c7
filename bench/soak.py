"""Run server and syncer together under mixed load and faults, and record what they use.

    python -m bench.soak [--minutes 30] [--plot docs/images/soak.svg]

A server with two workers, a `syncer sync --watch` of a changing folder and an S3 server run for the whole time. Clients
search texts, walk pages, upload and delete images through the API, search by pictures and follow the progress stream.
Meanwhile files appear, change and disappear, the S3 server stops, and PostgreSQL ends all connections.

Every ten seconds the memory and open files of all processes and the database connections are recorded. The last quarter
of the time is compared with the second: the first is for caches to fill.
"""

import argparse
import asyncio
import itertools
import json
import os
import random
import statistics
import subprocess
import sys
import tempfile
import time
from collections import Counter, defaultdict
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from pathlib import Path

import aiohttp
import psutil
import psycopg

from bench.line_chart import line_chart
from shared.db import embedded
from tests.fakes.s3 import FaultyProxy, S3Server, s3_environment
from tests.helpers.pictures import picture
from tests.helpers.processes import Syncer, make_environment, serving

BUCKET = "soak"
TOKEN = "token-of-the-soak-test"
SAMPLE_SECONDS = 10.0
WORDS = ("red", "blue", "dog", "snow", "beach", "city", "portrait", "night", "tree", "car", "horse", "window")


@dataclass
class Load:
    """Clients of one server. ``done`` counts their requests by kind and outcome."""

    http: aiohttp.ClientSession
    folder: Path
    rng: random.Random = field(default_factory=lambda: random.Random(7))
    done: Counter[str] = field(default_factory=Counter)
    _numbers: "itertools.count[int]" = field(default_factory=lambda: itertools.count(10_000))

    async def search(self) -> None:
        text = " ".join(self.rng.sample(WORDS, 3)) + f" {self.rng.randrange(500)}"
        page = await self._json("GET", "/api/search", params={"bucket": BUCKET, "q": text})
        if page and page["next_cursor"]:
            await self._json("GET", "/api/search", params={"bucket": BUCKET, "q": text, "cursor": page["next_cursor"]})

    async def browse(self) -> None:
        page = await self._json("GET", "/api/images", params={"bucket": BUCKET, "limit": 60})
        for image in (page or {"images": []})["images"][:5]:
            await self._json("GET", f"/api/images/{image['id']}/similar", params={"bucket": BUCKET})
        await self._text("GET", f"/?bucket={BUCKET}")

    async def search_by_picture(self) -> None:
        body = picture(self.rng.randrange(10_000), (200, 150))
        answer = await self._json("POST", "/api/query-images", params={"bucket": BUCKET}, data={"file": body})
        if answer:
            query = {"bucket": BUCKET, "terms": [{"query_image": answer["query_image"], "weight": 1}]}
            await self._json("POST", "/api/search", json=query)

    async def upload_and_delete(self) -> None:
        name = {"bucket": BUCKET, "filename": f"api-{next(self._numbers)}.jpg"}
        body = picture(next(self._numbers), (320, 240))
        image = await self._json("POST", "/api/images", params=name, data=body)
        if image and self.rng.random() < 0.5:
            await self._text("DELETE", f"/api/images/{image['id']}?bucket={BUCKET}")

    async def follow_progress(self) -> None:
        async with self.http.get("/api/stats/stream", params={"bucket": BUCKET}) as stream:
            async with asyncio.timeout(self.rng.uniform(1, 20)):
                async for _ in stream.content:
                    self.done["events"] += 1

    async def change_files(self) -> None:
        path = self.folder / f"{self.rng.randrange(400):03}.jpg"
        if path.exists() and self.rng.random() < 0.3:
            path.unlink()
        else:
            path.write_bytes(picture(next(self._numbers), (640, 480)))
        self.done["file changes"] += 1

    async def _json(self, method: str, path: str, **options: object) -> dict[str, object] | None:  # type: ignore[misc]
        text = await self._text(method, path, **options)
        return json.loads(text) if text else None

    async def _text(self, method: str, path: str, **options: object) -> str:
        async with self.http.request(method, path, **options) as response:  # type: ignore[arg-type]
            self.done[f"{method} {path.split('?')[0].split('/')[2] if path.startswith('/api') else 'page'}"] += 1
            self.done[f"status {response.status // 100}xx"] += 1
            return await response.text() if response.ok else ""


@dataclass
class Samples:
    """Values of all processes over time, by name."""

    began: float = field(default_factory=time.monotonic)
    values: dict[str, list[tuple[float, float]]] = field(default_factory=lambda: defaultdict(list))

    def record(self, processes: dict[str, int], database_url: str) -> None:
        minute = (time.monotonic() - self.began) / 60
        for name, pid in processes.items():
            parent = psutil.Process(pid)
            family = [parent, *parent.children(recursive=True)]
            rss = files = 0
            for process in family:
                try:
                    rss += process.memory_info().rss
                    files += process.num_fds()
                except psutil.NoSuchProcess:
                    continue
            self.values[f"{name}: memory (MB)"].append((minute, rss / 1e6))
            self.values[f"{name}: open files"].append((minute, files))
        with psycopg.connect(database_url) as conn:
            row = conn.execute("SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'client backend'").fetchone()
        self.values["database connections"].append((minute, row[0] if row else 0))

    def growth(self, name: str) -> tuple[float, float]:
        """Return the medians of the second and of the last quarter."""
        values = [value for _, value in self.values[name]]
        quarter = max(1, len(values) // 4)
        return statistics.median(values[quarter : 2 * quarter]), statistics.median(values[-quarter:])


async def repeat(action: Callable[[], Awaitable[None]], pause: float, done: Counter[str]) -> None:
    """Run *action* again and again; a request that fails during an outage is counted."""
    while True:
        try:
            await action()
        except (aiohttp.ClientError, TimeoutError, json.JSONDecodeError) as exc:
            done[f"client error {type(exc).__name__}"] += not isinstance(exc, TimeoutError)
        await asyncio.sleep(random.uniform(0.5, 1.5) * pause)


async def disturb(proxy: FaultyProxy, database_url: str, done: Counter[str]) -> None:
    """Stop the store for ten seconds, and end all database connections, in turn every minute."""
    for turn in itertools.count():
        await asyncio.sleep(60)
        if turn % 2:
            await asyncio.to_thread(proxy.stop)
            await asyncio.sleep(10)
            await asyncio.to_thread(proxy.start)
        else:
            async with await psycopg.AsyncConnection.connect(database_url, autocommit=True) as conn:
                await conn.execute(
                    "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
                    " WHERE backend_type = 'client backend' AND pid <> pg_backend_pid()"
                )
        done["disturbances"] += 1


async def soak(
    minutes: float, server_url: str, folder: Path, processes: dict[str, int], proxy: FaultyProxy, database_url: str
) -> tuple[Samples, Counter[str]]:
    samples = Samples()
    async with aiohttp.ClientSession(server_url, headers={"Authorization": f"Bearer {TOKEN}"}) as http:
        load = Load(http, folder)
        actions = [
            (load.search, 0.3),
            (load.search, 0.3),
            (load.browse, 2),
            (load.search_by_picture, 5),
            (load.upload_and_delete, 5),
            (load.follow_progress, 1),
            (load.change_files, 2),
        ]
        tasks = [asyncio.create_task(repeat(action, pause, load.done)) for action, pause in actions]
        tasks.append(asyncio.create_task(disturb(proxy, database_url, load.done)))
        try:
            while time.monotonic() < samples.began + 60 * minutes:
                await asyncio.sleep(SAMPLE_SECONDS)
                try:
                    await asyncio.to_thread(samples.record, processes, database_url)
                except psycopg.OperationalError:
                    continue
                if failed := [task for task in tasks if task.done()]:
                    failed[0].result()
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
        return samples, load.done


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=30)
    parser.add_argument("--plot", type=Path, help="write a plot of the memory to this SVG file")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        home = Path(folder)
        photos = home / "photos"
        photos.mkdir()
        for number in range(300):
            (photos / f"{number:03}.jpg").write_bytes(picture(number, (640, 480)))
        postgres = asyncio.run(embedded.start(home / "postgres"))
        try:
            with S3Server() as s3, FaultyProxy(s3.url) as proxy:
                s3.make_bucket(BUCKET)
                environment = make_environment(home, postgres.url) | s3_environment(proxy.url) | {"API_TOKEN": TOKEN}
                run(arguments, environment, photos, proxy, postgres.url)
        finally:
            asyncio.run(postgres.release())


def run(arguments: argparse.Namespace, environment: dict[str, str], photos: Path, proxy: FaultyProxy, url: str) -> None:
    log = photos.parent / "server.log"
    command = (sys.executable, "-m", "server", "--workers", "2")
    syncer = Syncer(environment)
    watch = ("sync", photos, "--bucket", BUCKET, "--watch", "--delete")
    assert syncer("sync", photos, "--bucket", BUCKET).status == 0
    with open(os.devnull, "w") as quiet, serving(environment, log, command=command) as server:
        process = subprocess.Popen([*syncer.command, *map(str, watch)], env=environment, stdout=quiet, stderr=quiet)
        try:
            processes = {"server": server.process.pid, "syncer": process.pid}
            samples, done = asyncio.run(soak(arguments.minutes, server.url, photos, processes, proxy, url))
            assert process.poll() is None, "the syncer has ended"
        finally:
            process.terminate()
            process.wait()
    for kind, count in sorted(done.items()):
        print(f"{count:>9,}  {kind}")
    for name in samples.values:
        second, last = samples.growth(name)
        print(f"{name:<24}{second:9.0f} in the second quarter, {last:6.0f} in the last")
    if arguments.plot:
        memory = {name: values for name, values in samples.values.items() if "memory" in name}
        arguments.plot.write_text(line_chart(f"Memory over {arguments.minutes:g} minutes", "minutes", "MB", memory))


if __name__ == "__main__":
    main()
