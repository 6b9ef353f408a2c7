"""Speed and activity of a collection on a real PostgreSQL."""

from datetime import UTC, datetime, timedelta
from uuid import uuid4

import pytest_asyncio

from shared.db.pool import Connection, Database
from shared.models import Collection, Counts, NewImage
from shared.sql import collections, images, queue, stats

NOW = datetime(2026, 1, 1, tzinfo=UTC)


@pytest_asyncio.fixture
async def collection(database: Database) -> Collection:
    return await database.run(collections.ensure, bucket="b", model="offline-v1", dimensions=3, now=NOW)


async def _record(conn: Connection, collection: Collection, minutes: int, embedded: int) -> None:
    await conn.execute(
        "INSERT INTO activity SELECT %s, %s, minute, 0, minute, %s, 1"
        " FROM (SELECT date_trunc('minute', now()) - make_interval(mins => %s) AS minute) AS start",
        [collection.bucket, collection.model, embedded, minutes],
    )


async def test_a_slow_start_does_not_count_once_work_is_faster(database: Database, collection: Collection) -> None:
    await database.run(_record, collection, minutes=3, embedded=1)
    slow = await database.run(stats.rate_per_minute, collection)
    assert 0 < slow < 1
    await database.run(_record, collection, minutes=1, embedded=600)
    # The previous minute began 60 to 120 seconds ago.
    assert 295 < await database.run(stats.rate_per_minute, collection) <= 601


async def test_a_collection_is_active_while_an_image_is_leased(database: Database, collection: Collection) -> None:
    image = NewImage("a.jpg", b"a", 1, "image/jpeg", 1, 1, "folder")
    await database.run(images.add, collection=collection, image=image, now=NOW)
    assert not await database.run(stats.is_active, collection)
    lease, duration = uuid4(), timedelta(minutes=1)
    await database.run(queue.claim, collection, lease=lease, limit=1, duration=duration)
    assert await database.run(stats.is_active, collection)
    await database.run(queue.release, collection, [lease])
    assert not await database.run(stats.is_active, collection)


async def test_collections_dropped_meanwhile_are_left_out(database: Database, collection: Collection) -> None:
    image = NewImage("a.jpg", b"a", 1, "image/jpeg", 1, 1, "folder")
    await database.run(images.add, collection=collection, image=image, now=NOW)
    other = await database.run(collections.ensure, bucket="other", model="50%", dimensions=3, now=NOW)
    empty = Counts(total=0, embedded=0, pending=0, failed=0)
    pending = Counts(total=1, embedded=0, pending=1, failed=0)
    assert await database.read(stats.counts_of_each, [collection, other]) == {collection: pending, other: empty}
    found = await database.read(images.latest_of_each, [other, collection])
    assert [[each.key for each in latest] for latest in found.values()] == [[], ["a.jpg"]]
    await database.run(collections.drop, other)
    assert await database.read(stats.counts_of_each, [other, collection]) == {collection: pending}
    assert await database.read(stats.counts_of_each, []) == {}
