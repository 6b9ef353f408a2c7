"""Process the pending images of a stage of the queue until none is left: embed them, or read their text.

Any number of these runs work on one collection, on any number of machines: the queue in the database leases images to
their workers. Failures of an image are recorded with that image. Outages of a service pause the run and count against
no image.
"""

import asyncio
import contextlib
import logging
import os
from abc import ABC, abstractmethod
from collections.abc import Coroutine, Iterator, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, Generic, TypeVar
from uuid import UUID

from shared.db.pool import Connection
from shared.errors import ImageRefused, ObjectLocked, ObjectMissing, Reason, ServiceError
from shared.models import Collection, Job
from shared.sql import queue, stats
from shared.stores.base import ObjectStore
from syncer.context import CommandContext
from syncer.process_locks import forget, has_ended, process_lock
from syncer.progress import ProgressKind

log = logging.getLogger(__name__)

MAX_CLAIM = 100  # images
IDLE_POLL = 1.0  # seconds between polls of an empty queue
RELEASE_TIMEOUT = 5.0  # seconds

Result = TypeVar("Result")
Quarantined = list[tuple[Job, ImageRefused]]


class StageRun(ABC, Generic[Result]):
    """Processes the pending images of *collection* with its model; a subclass computes and stores the results."""

    done: ProgressKind

    def __init__(
        self, context: CommandContext, collection: Collection, store: ObjectStore, *, workers: int, batch_size: int = 1
    ) -> None:
        self._context = context
        self._settings = context.settings
        self._collection = collection
        self._store = store
        self._lease_time = timedelta(seconds=context.settings.lease_seconds)
        self._workers = workers
        self._batch_size = batch_size
        self._leased: dict[int, Job] = {}
        self._jobs: asyncio.Queue[Job] = asyncio.Queue()
        self._changed = asyncio.Event()
        self._finishing = False
        self._worked = False
        self._lease: UUID | None = None

    @abstractmethod
    async def _compute(self, batch: Sequence[Job]) -> list[Result | ImageRefused]:
        """Return the result or the refusal of each image. Raises ServiceError."""

    @abstractmethod
    async def _complete(self, conn: Connection, job: Job, result: Result) -> int:
        """Store the result, for all images of equal content; return their number, 0 if the lease was lost."""

    def notify(self) -> None:
        """Look at the queue at once: an image was added."""
        self._changed.set()

    def finish(self) -> None:
        """Let ``run`` return when nothing is pending: no further images will be added."""
        self._finishing = True
        self._changed.set()

    async def run(self) -> None:
        """Work until ``finish`` was called and no image is pending, those leased to other processes included.

        Raises ServiceError if a service refuses or an outage outlasts the retry policy, and ModelChanged if the
        collection switched to another model. Leases are released unless the process is killed with -9.
        """
        with process_lock() as lease:
            self._lease = lease
            try:
                async with asyncio.TaskGroup() as tasks:
                    background = [tasks.create_task(each) for each in self._background()]
                    await self._dispatch(lease)
                    for task in background:
                        task.cancel()
                await self._after_last()
            finally:
                self._lease = None
                await self._release_at_end(lease)

    def _background(self) -> Iterator[Coroutine[Any, Any, None]]:
        """Yield the coroutines that run until nothing is pending."""
        yield from (self._work() for _ in range(self._workers))
        yield self._renew_leases()

    async def _after_last(self) -> None:
        """Conclude a run in which nothing is pending any more."""

    async def _dispatch(self, lease: UUID) -> None:
        """Claim due images and queue them for the workers until none is pending."""
        # Claims stay small, because other processes cannot work on what this one has leased.
        capacity = self._workers * self._batch_size
        while True:
            self._changed.clear()
            finishing = self._finishing
            if len(self._leased) <= capacity:
                if claimed := await self._claim(lease, min(MAX_CLAIM, 2 * capacity)):
                    self._worked = True
                    for job in claimed:
                        self._leased[job.id] = job
                        self._jobs.put_nowait(job)
                    continue
                if not self._leased and not await self._is_pending() and finishing:
                    return
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(IDLE_POLL):
                    await self._changed.wait()

    async def _claim(self, lease: UUID, limit: int) -> list[Job]:
        return await self._context.database.run(
            queue.claim, self._collection, lease=lease, limit=limit, duration=self._lease_time
        )

    async def _is_pending(self) -> bool:
        """Return whether images are leased to other processes or wait for a retry; release leases of dead processes."""
        leases = await self._context.database.run(queue.leases, self._collection)
        if dead := [lease for lease in leases if has_ended(lease)]:
            await self._context.database.run(queue.release, self._collection, dead)
            for lease in dead:
                forget(lease)
        return await self._context.database.run(queue.is_pending, self._collection)

    async def _work(self) -> None:
        while True:
            batch = [await self._jobs.get()]
            while len(batch) < self._batch_size and not self._jobs.empty():
                batch.append(self._jobs.get_nowait())
            await self._process(batch)
            for job in batch:
                self._leased.pop(job.id, None)
                self._processed(job)
            self._changed.set()

    def _processed(self, job: Job) -> None:
        """Clean up after a job whose outcome is stored."""

    async def _process(self, batch: Sequence[Job]) -> None:
        """Compute the outcomes and store them; only failures of services and of memory escape."""
        started = datetime.now(UTC)
        try:
            outcomes = await self._context.retry.run(self._compute, batch)
        except (ServiceError, MemoryError):
            raise
        except Exception as exc:
            if len(batch) > 1:
                # Unexpected: process images one by one to find the culprit.
                for job in batch:
                    await self._process([job])
                return
            log.exception("%s could not be %s", batch[0].key, self.done)
            outcomes = [ImageRefused(Reason.MODEL_REFUSED, f"it could not be {self.done}: {exc!r}", final=False)]
        await self._record(batch, outcomes, started)

    async def _object(self, key: str) -> bytes:
        """Return the content of an object. Raises ImageRefused if it cannot be read now."""
        try:
            return await self._store.get(key)
        except ObjectMissing as exc:
            raise ImageRefused(Reason.OBJECT_MISSING, f"the bucket has no object {key!r}", final=False) from exc
        except ObjectLocked as exc:
            raise ImageRefused(Reason.UNREADABLE, str(exc), final=False) from exc

    def _new_calls(self) -> int:
        """Return the number of charged calls since the last time."""
        return 0

    async def _record(self, batch: Sequence[Job], outcomes: Sequence[Result | ImageRefused], started: datetime) -> None:
        done, quarantined = await self._context.database.run(
            self._store_outcomes, batch, outcomes, started, self._new_calls()
        )
        self._context.progress.count(self.done, done)
        for job, refusal in quarantined:
            self._context.progress.report_failure(job.key, refusal)

    async def _store_outcomes(
        self,
        conn: Connection,
        batch: Sequence[Job],
        outcomes: Sequence[Result | ImageRefused],
        started: datetime,
        calls: int,
    ) -> tuple[int, Quarantined]:
        """Return the number of images with a result, and the quarantined ones."""
        done = 0
        quarantined: Quarantined = []
        for job, outcome in zip(batch, outcomes, strict=True):
            if isinstance(outcome, ImageRefused):
                delay = self._retry_delay(job, outcome)
                recorded = await queue.refuse(conn, self._collection, job, outcome, retry_in=delay)
                if recorded and delay is None:
                    quarantined.append((job, outcome))
            else:
                done += await self._complete(conn, job, outcome)
        await stats.record(
            conn,
            self._collection,
            elapsed=datetime.now(UTC) - started,
            slot=os.getpid(),
            embedded=done,
            calls=calls,
        )
        return done, quarantined

    def _retry_delay(self, job: Job, refusal: ImageRefused) -> timedelta | None:
        """Return the delay before the next attempt at a refused image; None to quarantine it."""
        if refusal.final or job.attempts + 1 >= self._settings.image_attempts:
            return None
        return timedelta(seconds=self._settings.image_retry_seconds) * float(4**job.attempts)

    async def _renew_leases(self) -> None:
        while True:
            await asyncio.sleep(self._settings.lease_seconds / 3)
            if jobs := list(self._leased.values()):
                await self._context.database.run(queue.renew, self._collection, jobs, duration=self._lease_time)

    async def _release_at_end(self, lease: UUID) -> None:
        """Release the remaining images, so that other processes need not wait for the lease to expire."""
        if not self._leased:
            return
        try:
            async with asyncio.timeout(RELEASE_TIMEOUT):
                await self._context.database.run(queue.release, self._collection, [lease])
        except (TimeoutError, ServiceError) as exc:
            log.warning("%d images stay leased until the lease expires: %s", len(self._leased), exc)
