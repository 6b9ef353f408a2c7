"""The second phase: fills vectors until none is missing that can be had.

Any number of these run at once, on any machines: the queue in the database shares out the work, by leases. What is an
image's fault is recorded with that image. What is a service's fault pauses the run, gives the images back, and counts
against none of them.
"""

import asyncio
import contextlib
import logging
import os
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from uuid import UUID

from shared.db.pool import Connection, Database
from shared.embedders.base import Embedder, ImageInput, Vector
from shared.errors import ImageRefused, ObjectLocked, ObjectMissing, Reason, ServiceError
from shared.models import Collection, Job
from shared.object_keys import preview_key
from shared.retry import RetryPolicy
from shared.sql import next_embeddings, queue, stats
from shared.stores.base import ObjectStore
from syncer.process_locks import forget, has_ended, holder
from syncer.progress import Progress

log = logging.getLogger(__name__)

MAX_CLAIM = 100
RELEASE_TIMEOUT = 5.0  # seconds that giving back what is in hand may take at the end


@dataclass(frozen=True)
class Policy:
    """How long a claim lasts without a sign of life, and how often an image is tried, with what pause between tries.

    The pause before the second try is ``retry_delay``; each further one is four times as long.
    """

    lease: timedelta = timedelta(seconds=120)
    attempts: int = 3
    retry_delay: timedelta = timedelta(seconds=5)

    def retry_in(self, attempts_so_far: int, refusal: ImageRefused) -> timedelta | None:
        """Return after which time a refused image is tried again; None when it is given up."""
        if refusal.final or attempts_so_far + 1 >= self.attempts:
            return None
        return self.retry_delay * float(4**attempts_so_far)


class Embedding:
    """One run over one collection with one model."""

    def __init__(
        self,
        collection: Collection,
        embedder: Embedder,
        *,
        database: Database,
        store: ObjectStore,
        retry: RetryPolicy,
        progress: Progress,
        workers: int,
        policy: Policy,
    ) -> None:
        self._collection = collection
        self._embedder = embedder
        self._model = embedder.name
        self._database = database
        self._store = store
        self._retry = retry
        self._progress = progress
        self._workers = workers
        self._policy = policy
        self._batch = min(embedder.batch_size, MAX_CLAIM)
        self._recorded_calls = 0
        self._held: dict[int, Job] = {}
        self._changed = asyncio.Event()
        self._complete = False

    def arrived(self) -> None:
        """Say that there is something new to embed."""
        self._changed.set()

    def no_more_to_come(self) -> None:
        """Say that nothing more will arrive: the run ends when nothing is pending."""
        self._complete = True
        self._changed.set()

    async def run(self) -> None:
        """Return when no image is pending, also not with other workers, and nothing more is to come.

        Raises ServiceError when a service refuses, or stays away for too long, and ModelChanged when the collection was
        switched to another model. However it ends, killed processes aside, the images in hand are given back.
        """
        jobs: asyncio.Queue[Job | None] = asyncio.Queue()
        with holder() as lease:
            try:
                async with asyncio.TaskGroup() as tasks:
                    renewing = tasks.create_task(self._renew())
                    for _ in range(self._workers):
                        tasks.create_task(self._work(jobs))
                    await self._feed(jobs, lease)
                    for _ in range(self._workers):
                        await jobs.put(None)
                    renewing.cancel()
            finally:
                await self._give_back(lease)

    async def _feed(self, jobs: asyncio.Queue[Job | None], lease: UUID) -> None:
        """Claim what is due, a little more than the workers have in hand, until there is nothing to wait for."""
        # Claims stay small: what this process holds, another one cannot do.
        in_hand = self._workers * self._batch
        while True:
            self._changed.clear()
            complete = self._complete
            if len(self._held) <= in_hand:
                claimed = await self._claim(lease, min(MAX_CLAIM, 2 * in_hand))
                for job in claimed:
                    self._held[job.id] = job
                    jobs.put_nowait(job)
                if claimed:
                    continue
                if not self._held and not await self._others_work() and complete:
                    return
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(1.0):
                    await self._changed.wait()

    async def _others_work(self) -> bool:
        """Whether images are pending that others hold, or that wait for their next try.

        What those held that have ended is due from now on.
        """
        if ended := [
            lease
            for lease in await self._database.run(queue.leases, collection=self._collection, model=self._model)
            if has_ended(lease)
        ]:
            await self._release(ended)
            for lease in ended:
                forget(lease)
        return await self._database.run(queue.is_pending, collection=self._collection, model=self._model)

    async def _release(self, leases: Sequence[UUID]) -> None:
        await self._database.run(queue.release, collection=self._collection, model=self._model, leases=leases)

    async def _claim(self, lease: UUID, limit: int) -> list[Job]:
        async def claim(conn: Connection) -> list[Job]:
            await next_embeddings.check_model(conn, self._collection)
            return await queue.claim(
                conn, self._collection, self._model, lease=lease, limit=limit, duration=self._policy.lease
            )

        return await self._database.run(claim)

    async def _work(self, jobs: asyncio.Queue[Job | None]) -> None:
        while (job := await jobs.get()) is not None:
            batch = [job]
            while len(batch) < self._batch and not jobs.empty():
                following = jobs.get_nowait()
                if following is None:
                    jobs.put_nowait(None)
                    break
                batch.append(following)
            await self._settle(batch)
            for job in batch:
                self._held.pop(job.id, None)
            self._changed.set()

    async def _settle(self, batch: Sequence[Job]) -> None:
        """Store for each job its vector, or why there is none; only a service's fault stops the run."""
        began = datetime.now(UTC)
        try:
            outcomes = await self._retry.run(self._embed, batch)
        except ServiceError:
            raise
        except Exception as exc:
            if len(batch) > 1:
                # Something unforeseen: alone, each image tells whether it is its own fault.
                for job in batch:
                    await self._settle([job])
                return
            log.exception("%s could not be embedded", batch[0].key)
            outcomes = [ImageRefused(Reason.MODEL_REFUSED, f"it could not be embedded: {exc!r}", final=False)]
        await self._store_outcomes(batch, outcomes, began=began)

    async def _embed(self, batch: Sequence[Job]) -> list[Vector | ImageRefused]:
        """Return what the model makes of each job's image, or what is wrong with the image."""
        inputs = await asyncio.gather(*(self._input(job) for job in batch))
        readable = [found for found in inputs if isinstance(found, ImageInput)]
        answers = iter(await self._embedder.embed_images(readable) if readable else [])
        return [next(answers) if isinstance(found, ImageInput) else found for found in inputs]

    async def _input(self, job: Job) -> ImageInput | ImageRefused:
        if self._embedder.wants == "address":
            key = preview_key(job.sha256) if job.derivatives else job.key
            return ImageInput(address=self._store.address(key))
        try:
            return ImageInput(data=await self._store.get(job.key))
        except ObjectMissing:
            return ImageRefused(Reason.OBJECT_MISSING, f"the bucket holds no object {job.key!r}", final=False)
        except ObjectLocked as exc:
            return ImageRefused(Reason.UNREADABLE, str(exc), final=False)
        except ImageRefused as refusal:
            return refusal

    async def _store_outcomes(
        self, batch: Sequence[Job], outcomes: Sequence[Vector | ImageRefused], *, began: datetime
    ) -> None:
        # Other workers' calls among them: what counts is that each is recorded once.
        calls = self._embedder.calls - self._recorded_calls
        self._recorded_calls += calls

        async def store(conn: Connection) -> tuple[int, list[tuple[Job, ImageRefused]]]:
            embedded, given_up = 0, []
            for job, outcome in zip(batch, outcomes, strict=True):
                if isinstance(outcome, ImageRefused):
                    retry_in = self._policy.retry_in(job.attempts, outcome)
                    known = await queue.refuse(conn, self._collection, self._model, job, outcome, retry_in=retry_in)
                    if known and retry_in is None:
                        given_up.append((job, outcome))
                else:
                    embedded += await queue.complete(conn, self._collection, self._model, job, outcome.tolist())
            await stats.record(
                conn,
                self._collection,
                self._model,
                began=began,
                now=datetime.now(UTC),
                slot=os.getpid(),
                embedded=embedded,
                calls=calls,
            )
            return embedded, given_up

        embedded, given_up = await self._database.run(store)
        self._progress.embedded(embedded)
        for job, refusal in given_up:
            self._progress.failed(job.key, refusal)

    async def _renew(self) -> None:
        while True:
            await asyncio.sleep(self._policy.lease.total_seconds() / 3)
            if held := list(self._held.values()):
                await self._database.run(
                    queue.renew, collection=self._collection, model=self._model, jobs=held, duration=self._policy.lease
                )

    async def _give_back(self, lease: UUID) -> None:
        """Release what is held, so that nobody has to wait for the leases' end; if that fails, they end anyway."""
        if not self._held:
            return
        try:
            async with asyncio.timeout(RELEASE_TIMEOUT):
                await self._release([lease])
        except (TimeoutError, ServiceError) as exc:
            log.warning("%d images could not be given back and stay reserved for a while: %s", len(self._held), exc)
