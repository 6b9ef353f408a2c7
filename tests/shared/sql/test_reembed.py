"""Two sets of vectors beside each other, on a real PostgreSQL: what processes do that began before a switch."""

import asyncio
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta
from typing import Any, TypeVar
from uuid import uuid4

import pytest
import pytest_asyncio

from shared.db.pool import Connection, Database
from shared.errors import ModelChanged
from shared.models import Collection, Counts, Job, NewImage
from shared.sql import collections, images, next_embeddings, queue, stats, vector_search

T = TypeVar("T")
OLD, NEW = "offline-v1", "clip:ViT-B/32"
OLD_VECTOR, NEW_VECTOR = [1.0, 0.0, 0.0], [0.0, 1.0]
NOW = datetime(2026, 1, 1, tzinfo=UTC)


class Bench:
    """A collection with vectors of OLD and a shadow for NEW; each call is a transaction of its own."""

    def __init__(self, database: Database, old: Collection, new: Collection) -> None:
        self.database = database
        self.old, self.new = old, new  # as processes know them that began before the switch

    async def run(self, work: Callable[..., Awaitable[T]], *arguments: Any, **more: Any) -> T:
        return await self.database.run(lambda conn: work(conn, *arguments, **more))

    async def add(self, key: str, content: str = "") -> int:
        image = NewImage(key, (content or key).encode(), 1, "image/jpeg", 1, 1, "folder")
        return await self.run(images.add, self.old, image, now=NOW)

    async def claim(self, collection: Collection) -> list[Job]:
        minute = timedelta(minutes=1)
        return await self.run(queue.claim, collection, collection.model, lease=uuid4(), limit=100, duration=minute)

    async def complete(self, collection: Collection, job: Job) -> int:
        vector = NEW_VECTOR if collection.model == NEW else OLD_VECTOR
        return await self.run(queue.complete, collection, collection.model, job, vector)

    async def fill(self, collection: Collection) -> None:
        for job in await self.claim(collection):
            await self.complete(collection, job)

    async def switch(self, model: str = NEW, *, rollback: bool = False) -> bool:
        return await self.run(next_embeddings.switch, self.old, model=model, rollback=rollback, now=NOW)

    async def vectors(self, image_id: int) -> tuple[list[float] | None, list[float] | None]:
        """Return the image's vector in the table that searches read, and that in the one beside."""
        beside = next_embeddings.with_next(self.old, next_embeddings.NextEmbeddings(NEW, 2, "filling"))
        return (
            await self.run(vector_search.vector_of, self.old, image_id),
            await self.run(vector_search.vector_of, beside, image_id),
        )

    async def counts(self, collection: Collection) -> Counts:
        return await self.run(stats.counts, collection)


@pytest_asyncio.fixture
async def bench(database: Database) -> Bench:
    old = await database.run(collections.ensure, bucket="b", model=OLD, dimensions=3, now=NOW)
    bench = Bench(database, old, old)
    await bench.add("first.jpg")
    await bench.fill(old)
    shadow = await bench.run(next_embeddings.start, old, model=NEW, dimensions=2, now=NOW)
    bench.new = next_embeddings.with_next(old, shadow)
    last: int | None = 0
    while last is not None:
        last = await bench.run(next_embeddings.prepare, bench.new, after=last, limit=1, now=NOW)
    return bench


async def test_an_image_added_meanwhile_is_work_for_both_models(bench: Bench) -> None:
    image_id = await bench.add("second.jpg")
    assert await bench.counts(bench.old) == Counts(total=2, embedded=1, pending=1, failed=0)
    assert await bench.counts(bench.new) == Counts(total=2, embedded=0, pending=2, failed=0)
    await bench.fill(bench.new)
    assert await bench.vectors(image_id) == (None, NEW_VECTOR)
    assert await bench.counts(bench.old) == Counts(total=2, embedded=1, pending=1, failed=0)


async def test_no_switch_while_an_image_waits_for_its_new_vector(bench: Bench) -> None:
    assert await bench.switch() is False
    await bench.fill(bench.new)
    await bench.add("second.jpg")
    assert await bench.switch() is False
    await bench.fill(bench.new)
    assert await bench.switch() is True
    assert await bench.switch() is True, "a commit whose outcome was unknown is repeated without harm"
    (now,) = await bench.run(collections.list_all)
    assert (now.model, now.dimensions) == (NEW, 2)


async def test_a_copy_gets_both_vectors_at_once_and_an_edit_loses_both(bench: Bench) -> None:
    await bench.fill(bench.new)
    copy = await bench.add("copy.jpg", "first.jpg")
    assert await bench.vectors(copy) == (OLD_VECTOR, NEW_VECTOR)
    edited = await bench.add("copy.jpg", "other content")
    assert edited == copy
    assert await bench.vectors(copy) == (None, None)
    assert await bench.counts(bench.new) == Counts(total=2, embedded=1, pending=1, failed=0)


async def test_an_edit_ends_the_lease_on_the_old_content(bench: Bench) -> None:
    (job,) = await bench.claim(bench.new)
    image_id = await bench.add("first.jpg", "other content")
    assert await bench.complete(bench.new, job) == 0
    assert await bench.vectors(image_id) == (None, None)


async def test_a_removed_or_renamed_image_is_so_in_both(bench: Bench) -> None:
    await bench.fill(bench.new)

    async def keys(conn: Connection) -> list[tuple[str, str]]:
        return await (
            await conn.execute("SELECT a.r2_key, b.r2_key FROM b_embeddings AS a FULL JOIN b_next AS b USING (id)")
        ).fetchall()

    await bench.database.run(lambda conn: conn.execute("UPDATE b_images SET r2_key = 'renamed.jpg'"))
    assert await bench.database.run(keys) == [("renamed.jpg", "renamed.jpg")]
    await bench.database.run(lambda conn: conn.execute("DELETE FROM b_images"))
    assert await bench.database.run(keys) == []


async def test_who_began_before_the_switch_writes_no_vector_into_the_wrong_table(bench: Bench) -> None:
    await bench.fill(bench.new)
    waiting = await bench.add("second.jpg")
    (job,) = await bench.claim(bench.old)
    await bench.fill(bench.new)
    await bench.switch()
    assert await bench.complete(bench.old, job) == 0
    assert await bench.vectors(waiting) == (NEW_VECTOR, None)
    for stale in (bench.old, bench.new):
        with pytest.raises(ModelChanged, match="run the command again"):
            await bench.run(next_embeddings.check_model, stale)


async def test_who_began_before_the_switch_adds_images_for_the_model_of_now(bench: Bench) -> None:
    await bench.fill(bench.new)
    await bench.switch()
    image_id = await bench.add("second.jpg")
    (now,) = await bench.run(collections.list_all)
    assert await bench.counts(now) == Counts(total=2, embedded=1, pending=1, failed=0)
    await bench.fill(now)
    assert await bench.vectors(image_id) == (NEW_VECTOR, None)
    # It is pending for the previous model, to which the way leads back.
    assert await bench.switch(OLD, rollback=True) is True
    assert await bench.counts(bench.old) == Counts(total=2, embedded=1, pending=1, failed=0)


async def test_a_search_under_way_holds_the_switch_off_until_it_ends(bench: Bench) -> None:
    await bench.fill(bench.new)
    checked, go_on = asyncio.Event(), asyncio.Event()

    async def searching(conn: Connection) -> list[float] | None:
        await next_embeddings.check_model(conn, bench.old)
        checked.set()
        await go_on.wait()
        return await vector_search.vector_of(conn, bench.old, 1)

    search_task = asyncio.create_task(bench.database.run(searching))
    await checked.wait()
    switch = asyncio.create_task(bench.switch())
    await asyncio.sleep(0.7)  # longer than the switch waits for a lock at a time
    assert not switch.done()
    go_on.set()
    assert await search_task == OLD_VECTOR
    assert await switch is True


async def test_forgetting_leaves_nothing_behind(bench: Bench) -> None:
    await bench.add("second.jpg")
    assert await bench.run(next_embeddings.discard, bench.old) is True
    assert await bench.run(next_embeddings.discard, bench.old) is False
    assert await bench.counts(bench.new) == Counts(total=2, embedded=2, pending=0, failed=0), "no queue, no failures"
    await bench.add("third.jpg")
    assert await bench.counts(bench.old) == Counts(total=3, embedded=1, pending=2, failed=0)
    with pytest.raises(ModelChanged):
        await bench.run(next_embeddings.check_model, bench.new)


@pytest_asyncio.fixture(autouse=True)
async def nothing_hangs() -> Any:
    async with asyncio.timeout(120):
        yield
