"""Embed pending images until none is left.

Any number of these runs work on one collection, on any number of machines: the queue in the database leases images to
their workers. Failures of an image are recorded with that image. Outages of a service pause the run and count against
no image.
"""

import asyncio
import contextlib
import logging
import os
from collections.abc import Awaitable, Callable, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from uuid import UUID

from shared.db.pool import Connection
from shared.embedders.base import Embedder, ImageInput, Vector
from shared.errors import ImageRefused, ObjectLocked, ObjectMissing, Reason, ServiceError
from shared.images import Examined, ModelInput
from shared.models import Collection, Job
from shared.object_keys import preview_key
from shared.sql import next_embeddings, queue, stats
from shared.stores.base import ObjectStore
from syncer.context import CommandContext
from syncer.index_builder import FirstLoad, ensure_index
from syncer.process_locks import forget, has_ended, process_lock

log = logging.getLogger(__name__)

MAX_CLAIM = 100  # images
IDLE_POLL = 1.0  # seconds between polls of an empty queue
INDEX_DELAY = 30.0  # seconds without work before a watch builds a missing index
RELEASE_TIMEOUT = 5.0  # seconds

Outcome = Vector | ImageRefused
Quarantined = list[tuple[Job, ImageRefused]]


class EmbeddingRun:
    """Embeds pending images of one collection with one model."""

    def __init__(self, context: CommandContext, collection: Collection, embedder: Embedder, store: ObjectStore) -> None:
        self._context = context
        self._settings = context.settings
        self._collection = collection
        self._embedder = embedder
        self._store = store
        self._lease_time = timedelta(seconds=context.settings.lease_seconds)
        # The embedder limits its concurrent calls itself; the other half of the workers decodes meanwhile.
        self._workers = 2 * context.settings.embed_concurrency
        self._batch_size = embedder.batch_size
        self._recorded_calls = 0
        self._leased: dict[int, Job] = {}
        self._jobs: asyncio.Queue[Job] = asyncio.Queue()
        self._changed = asyncio.Event()
        self._finishing = False
        self._first_load = FirstLoad(context, collection)
        self._worked = False
        self._lease: UUID | None = None
        self._prepared: dict[int, tuple[ModelInput | None, asyncio.Event]] = {}

    @property
    def examination(self) -> Callable[[Path, bool], Awaitable[Examined]] | None:
        """Examine a file for ``embed``; None while ``run`` is not running or the model is not on this machine."""
        return self._embedder.examination if self._lease else None

    async def claim(self, conn: Connection, image_id: int) -> list[Job]:
        """Lease an image in the transaction that adds it, for ``embed``; return nothing if it has a vector already."""
        if self._lease is None:
            return []
        job = await queue.claim_image(conn, self._collection, image_id, lease=self._lease, duration=self._lease_time)
        return [job] if job else []

    async def embed(self, job: Job, model_input: ModelInput | None) -> None:
        """Embed a claimed image from its pixels; return when its vector or refusal is stored."""
        done = asyncio.Event()
        self._prepared[job.id] = model_input, done
        self._worked = True
        self._leased[job.id] = job
        self._jobs.put_nowait(job)
        await done.wait()

    def notify(self) -> None:
        """Look at the queue at once: an image was added."""
        self._changed.set()

    def finish(self) -> None:
        """Let ``run`` return when nothing is pending: no further images will be added."""
        self._finishing = True
        self._changed.set()

    async def run(self) -> None:
        """Embed until ``finish`` was called and no image is pending, those leased to other processes included.

        Then searches can use the index of the vectors, which is built if necessary.

        Raises ServiceError if a service refuses or an outage outlasts the retry policy, and ModelChanged if the
        collection switched to another model. Leases are released unless the process is killed with -9.
        """
        with process_lock() as lease:
            self._lease = lease
            try:
                async with asyncio.TaskGroup() as tasks:
                    background = [tasks.create_task(self._work()) for _ in range(self._workers)]
                    background.append(tasks.create_task(self._renew_leases()))
                    background.append(tasks.create_task(self._build_index_when_idle()))
                    await self._dispatch(lease)
                    for task in background:
                        task.cancel()
                await ensure_index(self._context, self._collection)
            finally:
                self._lease = None
                await self._release_at_end(lease)

    async def _dispatch(self, lease: UUID) -> None:
        """Claim due images and queue them for the workers until none is pending."""
        # Claims stay small, because other processes cannot work on what this one has leased.
        capacity = self._workers * self._batch_size
        while True:
            self._changed.clear()
            finishing = self._finishing
            await self._first_load.check()
            if len(self._leased) <= capacity:
                if claimed := await self._context.database.run(self._claim, lease, min(MAX_CLAIM, 2 * capacity)):
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

    async def _claim(self, conn: Connection, lease: UUID, limit: int) -> list[Job]:
        await next_embeddings.check_model(conn, self._collection)
        return await queue.claim(conn, self._collection, lease=lease, limit=limit, duration=self._lease_time)

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
                if prepared := self._prepared.pop(job.id, None):
                    prepared[1].set()
            self._changed.set()

    async def _process(self, batch: Sequence[Job]) -> None:
        """Embed the batch and store each vector or refusal; only errors of services escape."""
        started = datetime.now(UTC)
        try:
            outcomes = await self._context.retry.run(self._embed, batch)
        except ServiceError:
            raise
        except Exception as exc:
            if len(batch) > 1:
                # Unexpected: process images one by one to find the culprit.
                for job in batch:
                    await self._process([job])
                return
            log.exception("%s could not be embedded", batch[0].key)
            outcomes = [ImageRefused(Reason.MODEL_REFUSED, f"embedding failed: {exc!r}", final=False)]
        await self._record(batch, outcomes, started)

    async def _embed(self, batch: Sequence[Job]) -> list[Outcome]:
        inputs = await asyncio.gather(*(self._input(job) for job in batch))
        readable = [image for image in inputs if isinstance(image, ImageInput)]
        vectors = iter(await self._embedder.embed_images(readable) if readable else [])
        return [next(vectors) if isinstance(image, ImageInput) else image for image in inputs]

    async def _input(self, job: Job) -> ImageInput | ImageRefused:
        model_input, _ = self._prepared.get(job.id, (None, None))
        if model_input:
            return ImageInput(prepared=model_input)
        if self._embedder.input_kind == "address":
            key = preview_key(job.sha256) if job.derivatives else job.key
            return ImageInput(address=self._store.address(key))
        try:
            return ImageInput(data=await self._store.get(job.key))
        except ObjectMissing:
            return ImageRefused(Reason.OBJECT_MISSING, f"the bucket has no object {job.key!r}", final=False)
        except ObjectLocked as exc:
            return ImageRefused(Reason.UNREADABLE, str(exc), final=False)
        except ImageRefused as refusal:
            return refusal

    async def _record(self, batch: Sequence[Job], outcomes: Sequence[Outcome], started: datetime) -> None:
        # May include calls of other workers; it only matters that each call is recorded once.
        calls = self._embedder.calls - self._recorded_calls
        self._recorded_calls += calls
        embedded, quarantined = await self._context.database.run(self._store_outcomes, batch, outcomes, started, calls)
        self._context.progress.count("embedded", embedded)
        for job, refusal in quarantined:
            self._context.progress.report_failure(job.key, refusal)

    async def _store_outcomes(
        self, conn: Connection, batch: Sequence[Job], outcomes: Sequence[Outcome], started: datetime, calls: int
    ) -> tuple[int, Quarantined]:
        """Return the number of embedded images, and the quarantined ones."""
        embedded = 0
        quarantined: Quarantined = []
        for job, outcome in zip(batch, outcomes, strict=True):
            if isinstance(outcome, ImageRefused):
                delay = self._retry_delay(job, outcome)
                recorded = await queue.refuse(conn, self._collection, job, outcome, retry_in=delay)
                if recorded and delay is None:
                    quarantined.append((job, outcome))
            else:
                embedded += await queue.complete(conn, self._collection, job, outcome.tolist())
        await stats.record(
            conn,
            self._collection,
            elapsed=datetime.now(UTC) - started,
            slot=os.getpid(),
            embedded=embedded,
            calls=calls,
        )
        return embedded, quarantined

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

    async def _build_index_when_idle(self) -> None:
        """Build a missing index in a watch, whose run does not end."""
        while True:
            self._worked = False
            await asyncio.sleep(INDEX_DELAY)
            if not self._worked and not self._finishing:
                await ensure_index(self._context, self._collection)

    async def _release_at_end(self, lease: UUID) -> None:
        """Release the remaining images, so that other processes need not wait for the lease to expire."""
        if not self._leased:
            return
        try:
            async with asyncio.timeout(RELEASE_TIMEOUT):
                await self._context.database.run(queue.release, self._collection, [lease])
        except (TimeoutError, ServiceError) as exc:
            log.warning("%d images stay leased until the lease expires: %s", len(self._leased), exc)
