"""The embedding queue on a real PostgreSQL."""

import asyncio
from datetime import UTC, datetime, timedelta
from uuid import uuid4

import pytest_asyncio

from shared.db.pool import Database
from shared.errors import ImageRefused, Reason
from shared.models import Collection, Counts, Job, NewImage
from shared.sql import collections, images, queue, stats, vector_search

MINUTE = timedelta(minutes=1)
NOW = datetime(2026, 1, 1, tzinfo=UTC)
VECTOR = [1.0, 0.0, 0.0]


class QueueTable:
    """The queue of one collection; each call is a transaction."""

    def __init__(self, database: Database, collection: Collection) -> None:
        self.database, self.collection = database, collection

    async def add(self, key: str, content: str = "") -> int:
        image = NewImage(key, (content or key).encode(), 1, "image/jpeg", 1, 1, "folder")
        return await self.database.run(images.add, collection=self.collection, image=image, now=NOW)

    async def claim(self, limit: int = 100, duration: timedelta = MINUTE) -> list[Job]:
        return await self.database.run(queue.claim, self.collection, lease=uuid4(), limit=limit, duration=duration)

    async def complete(self, job: Job) -> int:
        return await self.database.run(queue.complete, self.collection, job, VECTOR)

    async def refuse(self, job: Job, retry_in: timedelta | None = None) -> int:
        refusal = ImageRefused(Reason.CORRUPT, "it is corrupt")
        return await self.database.run(queue.refuse, self.collection, job, refusal, retry_in=retry_in)

    async def counts(self) -> Counts:
        return await self.database.run(stats.counts, collection=self.collection)

    async def vector(self, image_id: int) -> list[float] | None:
        return await self.database.run(vector_search.vector_of, collection=self.collection, image_id=image_id)


@pytest_asyncio.fixture
async def table(database: Database) -> QueueTable:
    collection = await database.run(collections.ensure, bucket="b", model="offline-v1", dimensions=3, now=NOW)
    return QueueTable(database, collection)


async def test_an_image_is_pending_then_leased_then_embedded(table: QueueTable) -> None:
    image_id = await table.add("a.jpg")
    assert await table.counts() == Counts(total=1, embedded=0, pending=1, failed=0)
    (job,) = await table.claim()
    assert await table.claim() == []
    assert await table.counts() == Counts(total=1, embedded=0, pending=1, failed=0)
    assert await table.complete(job) == 1
    assert await table.counts() == Counts(total=1, embedded=1, pending=0, failed=0)
    assert await table.vector(image_id) == VECTOR


async def test_concurrent_claims_never_lease_an_image_twice(table: QueueTable) -> None:
    for number in range(60):
        await table.add(f"{number}.jpg")
    claims = await asyncio.gather(*(table.claim(limit=10) for _ in range(9)))
    claimed = [job.id for jobs in claims for job in jobs]
    assert len(claimed) == len(set(claimed)) == 60


async def test_an_expired_lease_is_due_again_and_its_worker_changes_nothing(table: QueueTable) -> None:
    image_id = await table.add("a.jpg")
    (late,) = await table.claim(duration=timedelta(0))
    (job,) = await table.claim(duration=timedelta(milliseconds=1))  # also the grace period after a restart
    assert await table.complete(late) == 0
    assert await table.refuse(late) == 0
    assert await table.vector(image_id) is None
    assert await table.complete(job) == 1
    assert await table.complete(job) == 0, "a commit with unknown outcome can be repeated"


async def test_a_renewed_lease_stays_and_a_released_image_is_due_at_once(table: QueueTable) -> None:
    await table.add("a.jpg")
    (job,) = await table.claim(duration=timedelta(seconds=0.05))
    await table.database.run(queue.renew, table.collection, [job], duration=MINUTE)
    await asyncio.sleep(0.1)
    assert await table.claim() == []
    leases = await table.database.run(queue.leases, table.collection)
    assert leases == [job.lease]
    await table.database.run(queue.release, table.collection, leases)
    (again,) = await table.claim()
    assert again.attempts == 0


async def test_a_refused_image_waits_for_its_retry_and_new_images_go_first(table: QueueTable) -> None:
    await table.add("bad.jpg")
    (bad,) = await table.claim()
    assert await table.refuse(bad, retry_in=MINUTE) == 1
    await table.add("good.jpg")
    assert [job.key for job in await table.claim()] == ["good.jpg"]
    assert await table.counts() == Counts(total=2, embedded=0, pending=2, failed=0)


async def test_a_quarantined_image_is_listed_with_its_reason_until_it_is_retried(table: QueueTable) -> None:
    await table.add("bad.jpg")
    (bad,) = await table.claim()
    await table.refuse(bad)
    assert await table.counts() == Counts(total=1, embedded=0, pending=0, failed=1)
    assert await table.claim() == []
    (failure,) = await table.database.run(queue.failures, table.collection)
    assert (failure.key, failure.reason, failure.attempts) == ("bad.jpg", "corrupt", 1)
    assert await table.database.run(queue.retry, table.collection, key="bad.jpg") == 1
    assert [job.attempts for job in await table.claim()] == [0]


async def test_equal_content_is_embedded_once(table: QueueTable) -> None:
    first, second = await table.add("a.jpg", "same"), await table.add("copy of a.jpg", "same")
    (job,) = await table.claim()
    assert job.id == first
    assert await table.complete(job) == 2
    assert await table.vector(second) == VECTOR
    third = await table.add("another copy.jpg", "same")
    assert await table.vector(third) == VECTOR
    assert await table.counts() == Counts(total=3, embedded=3, pending=0, failed=0)


async def test_a_changed_image_is_pending_again_and_rejects_the_vector_of_its_old_content(
    table: QueueTable,
) -> None:
    image_id = await table.add("a.jpg", "old")
    (old,) = await table.claim()
    assert await table.add("a.jpg", "new") == image_id
    assert await table.complete(old) == 0
    (new,) = await table.claim()
    assert new.sha256 == b"new"
    assert await table.complete(new) == 1
    assert await table.counts() == Counts(total=1, embedded=1, pending=0, failed=0)
    assert await table.add("a.jpg", "newer") == image_id
    assert await table.vector(image_id) is None
    assert await table.counts() == Counts(total=1, embedded=0, pending=1, failed=0)


async def test_concurrent_changes_keep_the_counts_correct(table: QueueTable) -> None:
    await asyncio.gather(*(table.add(f"{number}.jpg") for number in range(40)))
    jobs = await table.claim()
    await asyncio.gather(*(table.complete(job) for job in jobs[:20]), *(table.refuse(job) for job in jobs[20:30]))
    assert await table.counts() == Counts(total=40, embedded=20, pending=10, failed=10)
