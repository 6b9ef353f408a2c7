"""Two sets of vectors on a real PostgreSQL, and processes that started before a switch."""

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


class TwoModels:
    """A collection with vectors of OLD and next embeddings of NEW; each call is a transaction."""

    def __init__(self, database: Database, old: Collection, new: Collection) -> None:
        self.database = database
        self.old, self.new = old, new  # as read before the switch

    async def run(self, work: Callable[..., Awaitable[T]], *args: Any, **kwargs: Any) -> T:
        return await self.database.run(work, *args, **kwargs)

    async def add(self, key: str, content: str = "") -> int:
        image = NewImage(key, (content or key).encode(), 1, "image/jpeg", 1, 1, "folder")
        return await self.run(images.add, self.old, image, now=NOW)

    async def claim(self, collection: Collection) -> list[Job]:
        minute = timedelta(minutes=1)
        return await self.run(queue.claim, collection, lease=uuid4(), limit=100, duration=minute)

    async def complete(self, collection: Collection, job: Job) -> int:
        vector = NEW_VECTOR if collection.model == NEW else OLD_VECTOR
        return await self.run(queue.complete, collection, job, vector)

    async def fill(self, collection: Collection) -> None:
        for job in await self.claim(collection):
            await self.complete(collection, job)

    async def switch(self, model: str = NEW, *, rollback: bool = False) -> bool:
        return await self.run(next_embeddings.switch, self.old, model=model, rollback=rollback)

    async def vectors(self, image_id: int) -> tuple[list[float] | None, list[float] | None]:
        """Return the image's vectors in the current and the next table."""
        target = next_embeddings.with_next(self.old, next_embeddings.NextEmbeddings(NEW, 2, "filling"))
        return (
            await self.run(vector_search.vector_of, self.old, image_id),
            await self.run(vector_search.vector_of, target, image_id),
        )

    async def counts(self, collection: Collection) -> Counts:
        return await self.run(stats.counts, collection)


@pytest_asyncio.fixture
async def tables(database: Database) -> TwoModels:
    old = await database.run(collections.ensure, bucket="b", model=OLD, dimensions=3, now=NOW)
    tables = TwoModels(database, old, old)
    await tables.add("first.jpg")
    await tables.fill(old)
    created = await tables.run(next_embeddings.start, old, model=NEW, dimensions=2)
    tables.new = next_embeddings.with_next(old, created)
    last: int | None = 0
    while last is not None:
        last = await tables.run(next_embeddings.prepare, tables.new, after=last, limit=1)
    return tables


async def test_an_image_added_meanwhile_is_pending_for_both_models(tables: TwoModels) -> None:
    image_id = await tables.add("second.jpg")
    assert await tables.counts(tables.old) == Counts(total=2, embedded=1, pending=1, failed=0)
    assert await tables.counts(tables.new) == Counts(total=2, embedded=0, pending=2, failed=0)
    await tables.fill(tables.new)
    assert await tables.vectors(image_id) == (None, NEW_VECTOR)
    assert await tables.counts(tables.old) == Counts(total=2, embedded=1, pending=1, failed=0)


async def test_a_pending_image_prevents_the_switch(tables: TwoModels) -> None:
    assert await tables.switch() is False
    await tables.fill(tables.new)
    await tables.add("second.jpg")
    assert await tables.switch() is False
    await tables.fill(tables.new)
    assert await tables.switch() is True
    assert await tables.switch() is True, "a commit with unknown outcome can be repeated"
    (now,) = await tables.run(collections.list_all)
    assert (now.model, now.dimensions) == (NEW, 2)


async def test_a_copy_gets_both_vectors_at_once_and_an_edited_image_loses_both(tables: TwoModels) -> None:
    await tables.fill(tables.new)
    copy = await tables.add("copy.jpg", "first.jpg")
    assert await tables.vectors(copy) == (OLD_VECTOR, NEW_VECTOR)
    edited = await tables.add("copy.jpg", "other content")
    assert edited == copy
    assert await tables.vectors(copy) == (None, None)
    assert await tables.counts(tables.new) == Counts(total=2, embedded=1, pending=1, failed=0)


async def test_a_lease_on_old_content_stores_nothing(tables: TwoModels) -> None:
    (job,) = await tables.claim(tables.new)
    image_id = await tables.add("first.jpg", "other content")
    assert await tables.complete(tables.new, job) == 0
    assert await tables.vectors(image_id) == (None, None)


async def test_renames_and_deletions_reach_both_tables(tables: TwoModels) -> None:
    await tables.fill(tables.new)

    async def keys(conn: Connection) -> list[tuple[str, str]]:
        return await (
            await conn.execute("SELECT a.r2_key, b.r2_key FROM b_embeddings AS a FULL JOIN b_next AS b USING (id)")
        ).fetchall()

    await tables.database.run(lambda conn: conn.execute("UPDATE b_images SET r2_key = 'renamed.jpg'"))
    assert await tables.database.run(keys) == [("renamed.jpg", "renamed.jpg")]
    await tables.database.run(lambda conn: conn.execute("DELETE FROM b_images"))
    assert await tables.database.run(keys) == []


async def test_a_worker_from_before_the_switch_writes_no_vector_into_the_wrong_table(tables: TwoModels) -> None:
    await tables.fill(tables.new)
    waiting = await tables.add("second.jpg")
    (job,) = await tables.claim(tables.old)
    await tables.fill(tables.new)
    await tables.switch()
    assert await tables.complete(tables.old, job) == 0
    assert await tables.vectors(waiting) == (NEW_VECTOR, None)
    for stale in (tables.old, tables.new):
        with pytest.raises(ModelChanged, match="run it again"):
            await tables.run(next_embeddings.check_model, stale)


async def test_an_uploader_from_before_the_switch_queues_images_for_the_current_model(tables: TwoModels) -> None:
    await tables.fill(tables.new)
    await tables.switch()
    image_id = await tables.add("second.jpg")
    (now,) = await tables.run(collections.list_all)
    assert await tables.counts(now) == Counts(total=2, embedded=1, pending=1, failed=0)
    await tables.fill(now)
    assert await tables.vectors(image_id) == (NEW_VECTOR, None)
    # It is pending for the previous model after a rollback.
    assert await tables.switch(OLD, rollback=True) is True
    assert await tables.counts(tables.old) == Counts(total=2, embedded=1, pending=1, failed=0)


async def test_a_running_search_delays_the_switch(tables: TwoModels) -> None:
    await tables.fill(tables.new)
    checked, proceed = asyncio.Event(), asyncio.Event()

    async def searching(conn: Connection) -> list[float] | None:
        await next_embeddings.check_model(conn, tables.old)
        checked.set()
        await proceed.wait()
        return await vector_search.vector_of(conn, tables.old, 1)

    search_task = asyncio.create_task(tables.database.run(searching))
    await checked.wait()
    switch = asyncio.create_task(tables.switch())
    await asyncio.sleep(0.7)  # longer than the lock timeout of a switch
    assert not switch.done()
    proceed.set()
    assert await search_task == OLD_VECTOR
    assert await switch is True


async def test_discarding_leaves_nothing_behind(tables: TwoModels) -> None:
    await tables.add("second.jpg")
    assert await tables.run(next_embeddings.discard, tables.old) is True
    assert await tables.run(next_embeddings.discard, tables.old) is False
    assert await tables.counts(tables.new) == Counts(total=2, embedded=2, pending=0, failed=0), "no queue, no failures"
    await tables.add("third.jpg")
    assert await tables.counts(tables.old) == Counts(total=3, embedded=1, pending=2, failed=0)
    with pytest.raises(ModelChanged):
        await tables.run(next_embeddings.check_model, tables.new)
