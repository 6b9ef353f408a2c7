"""Progress streams: a thousand listeners beside searches."""

import asyncio
import resource
from pathlib import Path

import aiohttp
import psycopg

from tests.helpers.filled_collections import fill_database, unit_vectors
from tests.helpers.processes import make_environment, make_home, serving

LISTENERS = 1000
SEARCHERS, SEARCHES = 10, 30  # concurrent ones, and searches of each
IMAGES = 300


def count_reads(conn: "psycopg.Connection[tuple[int]]") -> int:
    """Return how often statistics were read: nothing else reads the table ``activity``."""
    conn.execute("SELECT pg_stat_clear_snapshot()")
    row = conn.execute("SELECT seq_scan + idx_scan FROM pg_stat_user_tables WHERE relname = 'activity'").fetchone()
    assert row is not None
    return row[0]


async def listen(session: aiohttp.ClientSession, url: str, seen: list[int], number: int) -> None:
    """Write the number of pending images of each event to *seen*."""
    async with session.get(url) as response:
        assert response.status == 200
        async for line in response.content:
            if line.startswith(b"data:"):
                seen[number] = int(line.partition(b'"pending": ')[2].partition(b",")[0])


async def wait_until_all_saw(seen: list[int], pending: int) -> None:
    """Wait until every listener has received *pending*."""
    async with asyncio.timeout(60):
        while set(seen) != {pending}:
            await asyncio.sleep(0.05)


async def test_a_thousand_listeners_share_one_read_per_second_and_searches_are_still_served(
    database_url: str, shared_folder: Path, tmp_path: Path
) -> None:
    loop = asyncio.get_running_loop()
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    await fill_database(database_url, "b", "offline-v1", unit_vectors(IMAGES, 384, seed=1))
    environment = make_environment(make_home(tmp_path / "home", shared_folder), database_url)
    with serving(environment, tmp_path / "log") as server, psycopg.connect(database_url, autocommit=True) as conn:
        async with (
            aiohttp.ClientSession(
                server.url, connector=aiohttp.TCPConnector(limit=0), timeout=aiohttp.ClientTimeout(total=120)
            ) as session,
            asyncio.TaskGroup() as group,
        ):

            async def search(times: int) -> list[list[tuple[int, float]]]:
                results = []
                for _ in range(times):
                    async with session.get("/api/search?bucket=b&q=a+street+at+night") as response:
                        assert response.status == 200
                        results.append([(each["id"], each["score"]) for each in (await response.json())["images"]])
                return results

            [expected] = await search(1)
            assert len(expected) == 30
            started, before = loop.time(), count_reads(conn)
            seen = [-1] * LISTENERS
            listening = [
                group.create_task(listen(session, "/api/stats/stream?bucket=b", seen, number))
                for number in range(LISTENERS)
            ]
            await wait_until_all_saw(seen, 0)
            searching = [group.create_task(search(SEARCHES)) for _ in range(SEARCHERS)]
            for change in (1, 2, 3):
                await asyncio.sleep(1)
                conn.execute("INSERT INTO b_queue (id, model, due_at) VALUES (%s, 'offline-v1', now())", [change])
                await wait_until_all_saw(seen, change)
            results = await asyncio.gather(*searching)
            async with asyncio.timeout(60):
                while count_reads(conn) - before < 3:  # PostgreSQL publishes counts with a delay
                    await asyncio.sleep(0.5)
            reads, duration = count_reads(conn) - before, loop.time() - started
            for task in listening:
                task.cancel()
    assert results == [[expected] * SEARCHES] * SEARCHERS
    # One read per second for all listeners together, and one at the start.
    assert reads <= duration + 2
