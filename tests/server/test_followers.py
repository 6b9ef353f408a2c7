"""A thousand clients that follow a collection's figures, beside a hundred searches a second."""

import asyncio
import resource
from pathlib import Path

import aiohttp
import psycopg

from tests.helpers.filled_collections import fill_database, unit_vectors
from tests.helpers.processes import make_environment, make_home, serving

FOLLOWERS = 1000
SEARCHES = 100  # a second
SECONDS = 5
IMAGES = 300


def looks_at_the_figures(conn: "psycopg.Connection[tuple[int]]") -> int:
    """How often the server read a collection's figures: nothing but that reads the table of what was done."""
    conn.execute("SELECT pg_stat_clear_snapshot()")
    row = conn.execute("SELECT seq_scan + idx_scan FROM pg_stat_user_tables WHERE relname = 'activity'").fetchone()
    assert row is not None
    return row[0]


async def follow(session: aiohttp.ClientSession, url: str, seen: list[int], number: int) -> None:
    """Keep in *seen* how many images are pending, as it was told last."""
    async with session.get(url) as answer:
        assert answer.status == 200
        async for line in answer.content:
            if line.startswith(b"data:"):
                seen[number] = int(line.partition(b'"pending": ')[2].partition(b",")[0])


async def until(seen: list[int], told: int) -> None:
    """Wait until all were told that."""
    async with asyncio.timeout(60):
        while set(seen) != {told}:
            await asyncio.sleep(0.05)


async def test_a_thousand_followers_and_a_hundred_searches_a_second_are_served_together(
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

            async def search() -> list[tuple[int, float]]:
                while True:
                    async with session.get("/api/search?bucket=b&q=a+street+at+night") as answer:
                        if answer.status == 200:
                            return [(image["id"], image["score"]) for image in (await answer.json())["images"]]
                        # Where the machine is too slow for so many, a server says so, and when to come again.
                        assert answer.status == 503
                        pause = float(answer.headers["Retry-After"])
                    await asyncio.sleep(pause)

            async def search_steadily() -> list[list[tuple[int, float]]]:
                """Begin each search at its time, however many are under way."""
                began = loop.time()
                searches = []
                for number in range(SEARCHES * SECONDS):
                    await asyncio.sleep(max(0.0, began + number / SEARCHES - loop.time()))
                    searches.append(asyncio.create_task(search()))
                async with asyncio.timeout(120):
                    return await asyncio.gather(*searches)

            expected = await search()
            assert len(expected) == 30
            seen = [-1] * FOLLOWERS
            following = [
                group.create_task(follow(session, "/api/stats/stream?bucket=b", seen, number))
                for number in range(FOLLOWERS)
            ]
            await until(seen, 0)
            began, before = loop.time(), looks_at_the_figures(conn)
            searching = group.create_task(search_steadily())
            for change in (1, 2, 3):
                await asyncio.sleep(1)
                conn.execute("INSERT INTO b_queue (id, model, due_at) VALUES (%s, 'offline-v1', now())", [change])
                await until(seen, change)
            answers = await searching
            took, looks = loop.time() - began, looks_at_the_figures(conn) - before
            for task in following:
                task.cancel()
    assert answers == [expected] * SEARCHES * SECONDS
    # One a second for all together, and one more where it began.
    assert 3 <= looks <= took + 2
