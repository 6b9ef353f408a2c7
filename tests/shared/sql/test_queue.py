"""The work queue, on a real PostgreSQL."""

import asyncio
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from uuid import uuid4

import pytest
import pytest_asyncio

from shared.db.pool import Database
from shared.errors import ImageRefused, Reason
from shared.models import Collection, Counts, Job, NewImage
from shared.sql import collections, images, queue, stats, vector_search

MODEL = "offline-v1"
MINUTE = timedelta(minutes=1)
NOW = datetime(2026, 1, 1, tzinfo=UTC)
VECTOR = [1.0, 0.0, 0.0]


@pytest_asyncio.fixture
async def collection(database: Database) -> Collection:
    return await database.run(collections.ensure, bucket="b", model=MODEL, dimensions=3, now=datetime.now(UTC))


@pytest.fixture
def work(database: Database, collection: Collection) -> "Work":
    return Work(database, collection)


class Work:
    """The queue's statements, each in a transaction of its own."""

    def __init__(self, database: Database, collection: Collection) -> None:
        self.database, self.collection = database, collection

    async def add(self, key: str, content: str = "") -> int:
        image = NewImage(key, (content or key).encode(), 1, "image/jpeg", 1, 1, "folder")
        return await self.database.run(images.add, collection=self.collection, image=image, now=NOW)

    async def claim(self, limit: int = 100, duration: timedelta = MINUTE) -> list[Job]:
        return await self.database.run(
            queue.claim, collection=self.collection, model=MODEL, lease=uuid4(), limit=limit, duration=duration
        )

    async def complete(self, job: Job) -> int:
        return await self.database.run(queue.complete, collection=self.collection, model=MODEL, job=job, vector=VECTOR)

    async def refuse(self, job: Job, retry_in: timedelta | None = None) -> int:
        refusal = ImageRefused(Reason.CORRUPT, "it is corrupt")
        return await self.database.run(
            queue.refuse, collection=self.collection, model=MODEL, job=job, refusal=refusal, retry_in=retry_in
        )

    async def counts(self) -> Counts:
        return await self.database.run(stats.counts, collection=self.collection)

    async def vector(self, image_id: int) -> list[float] | None:
        return await self.database.run(vector_search.vector_of, collection=self.collection, image_id=image_id)


async def test_an_image_is_pending_then_leased_then_embedded(work: Work) -> None:
    image_id = await work.add("a.jpg")
    assert await work.counts() == Counts(total=1, embedded=0, pending=1, failed=0)
    (job,) = await work.claim()
    assert await work.claim() == []
    assert await work.counts() == Counts(total=1, embedded=0, pending=1, failed=0)
    assert await work.complete(job) == 1
    assert await work.counts() == Counts(total=1, embedded=1, pending=0, failed=0)
    assert await work.vector(image_id) == VECTOR


async def test_many_workers_share_the_work_and_none_gets_what_another_has(work: Work) -> None:
    for number in range(60):
        await work.add(f"{number}.jpg")
    claims = await asyncio.gather(*(work.claim(limit=10) for _ in range(9)))
    claimed = [job.id for jobs in claims for job in jobs]
    assert len(claimed) == len(set(claimed)) == 60


async def test_a_lease_that_ended_is_work_again_and_its_late_worker_changes_nothing(work: Work) -> None:
    image_id = await work.add("a.jpg")
    (late,) = await work.claim(duration=timedelta(0))
    (job,) = await work.claim(duration=timedelta(milliseconds=1))  # which is also the grace after a restart
    assert await work.complete(late) == 0
    assert await work.refuse(late) == 0
    assert await work.vector(image_id) is None
    assert await work.complete(job) == 1
    assert await work.complete(job) == 0, "a commit whose outcome was unknown is repeated without harm"


async def test_a_renewed_lease_stays_and_a_released_one_is_due_at_once(work: Work) -> None:
    await work.add("a.jpg")
    (job,) = await work.claim(duration=timedelta(seconds=0.05))
    await work.database.run(queue.renew, collection=work.collection, model=MODEL, jobs=[job], duration=MINUTE)
    await asyncio.sleep(0.1)
    assert await work.claim() == []
    leases = await work.database.run(queue.leases, collection=work.collection, model=MODEL)
    assert leases == [job.lease]
    await work.database.run(queue.release, collection=work.collection, model=MODEL, leases=leases)
    (again,) = await work.claim()
    assert again.attempts == 0


async def test_a_refused_image_waits_for_its_next_try_and_lets_new_ones_pass(work: Work) -> None:
    await work.add("bad.jpg")
    (bad,) = await work.claim()
    assert await work.refuse(bad, retry_in=MINUTE) == 1
    await work.add("good.jpg")
    assert [job.key for job in await work.claim()] == ["good.jpg"]
    assert await work.counts() == Counts(total=2, embedded=0, pending=2, failed=0)


async def test_an_image_given_up_is_listed_with_its_reason_until_it_is_retried(work: Work) -> None:
    await work.add("bad.jpg")
    (bad,) = await work.claim()
    await work.refuse(bad)
    assert await work.counts() == Counts(total=1, embedded=0, pending=0, failed=1)
    assert await work.claim() == []
    (failure,) = await work.database.run(queue.failures, collection=work.collection, model=MODEL)
    assert (failure.key, failure.reason, failure.attempts) == ("bad.jpg", "corrupt", 1)
    assert await work.database.run(queue.retry, collection=work.collection, model=MODEL, key="bad.jpg") == 1
    assert [job.attempts for job in await work.claim()] == [0]


async def test_equal_contents_are_computed_once(work: Work) -> None:
    first, second = await work.add("a.jpg", "same"), await work.add("copy of a.jpg", "same")
    (job,) = await work.claim()
    assert job.id == first
    assert await work.complete(job) == 2
    assert await work.vector(second) == VECTOR
    third = await work.add("another copy.jpg", "same")
    assert await work.vector(third) == VECTOR
    assert await work.counts() == Counts(total=3, embedded=3, pending=0, failed=0)


async def test_a_changed_image_is_pending_again_and_the_old_contents_vector_is_refused(work: Work) -> None:
    image_id = await work.add("a.jpg", "old")
    (old,) = await work.claim()
    assert await work.add("a.jpg", "new") == image_id
    assert await work.complete(old) == 0
    (new,) = await work.claim()
    assert new.sha256 == b"new"
    assert await work.complete(new) == 1
    assert await work.counts() == Counts(total=1, embedded=1, pending=0, failed=0)
    assert await work.add("a.jpg", "newer") == image_id
    assert await work.vector(image_id) is None
    assert await work.counts() == Counts(total=1, embedded=0, pending=1, failed=0)


async def test_counts_stay_right_when_many_change_them_at_once(work: Work) -> None:
    await asyncio.gather(*(work.add(f"{number}.jpg") for number in range(40)))
    jobs = await work.claim()
    await asyncio.gather(*(work.complete(job) for job in jobs[:20]), *(work.refuse(job) for job in jobs[20:30]))
    assert await work.counts() == Counts(total=40, embedded=20, pending=10, failed=10)


@pytest_asyncio.fixture(autouse=True)
async def nothing_hangs() -> AsyncIterator[None]:
    async with asyncio.timeout(60):
        yield
