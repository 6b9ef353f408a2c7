"""Embed pending images until none is left: the stage of the queue whose results are vectors."""

import asyncio
from collections.abc import Awaitable, Callable, Coroutine, Iterator, Sequence
from pathlib import Path
from typing import Any
from uuid import UUID

from shared.db.pool import Connection
from shared.embedders.base import Embedder, ImageInput, Vector
from shared.errors import ImageRefused, ModelError, SettingsError
from shared.images import Examined, ModelInput
from shared.models import Collection, Job
from shared.object_keys import preview_key
from shared.sql import next_embeddings, queue
from shared.stores.base import ObjectStore
from syncer.calibration import calibrate_if_free
from syncer.context import CommandContext
from syncer.index_builder import FirstLoad, ensure_index
from syncer.stage import StageRun

COMPLETION_DELAY = 30.0  # seconds without work before a watch builds a missing index and calibrates


class EmbeddingRun(StageRun[Vector]):
    """Embeds pending images of one collection with one model, then completes the collection."""

    done = "embedded"

    def __init__(self, context: CommandContext, collection: Collection, embedder: Embedder, store: ObjectStore) -> None:
        # The embedder limits its concurrent calls itself; the other half of the workers decodes meanwhile.
        workers = 2 * context.settings.embed_concurrency
        super().__init__(context, collection, store, workers=workers, batch_size=embedder.batch_size)
        self._embedder = embedder
        self._recorded_calls = 0
        self._first_load = FirstLoad(context, collection)
        self._prepared: dict[int, tuple[ModelInput | None, asyncio.Event]] = {}
        self._calibration_error = ""  # the last one reported

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

    def _background(self) -> Iterator[Coroutine[Any, Any, None]]:
        yield from super()._background()
        yield self._complete_when_idle()

    async def _claim(self, lease: UUID, limit: int) -> list[Job]:
        await self._first_load.check()
        return await self._context.database.run(self._claim_in_model, lease, limit)

    async def _claim_in_model(self, conn: Connection, lease: UUID, limit: int) -> list[Job]:
        await next_embeddings.check_model(conn, self._collection)
        return await queue.claim(conn, self._collection, lease=lease, limit=limit, duration=self._lease_time)

    async def _after_last(self) -> None:
        await self._complete_collection()

    def _processed(self, job: Job) -> None:
        if prepared := self._prepared.pop(job.id, None):
            prepared[1].set()

    def _new_calls(self) -> int:
        # May include calls of other workers; it only matters that each call is recorded once.
        calls = self._embedder.calls - self._recorded_calls
        self._recorded_calls += calls
        return calls

    async def _complete(self, conn: Connection, job: Job, result: Vector) -> int:
        return await queue.complete(conn, self._collection, job, result.tolist())

    async def _compute(self, batch: Sequence[Job]) -> list[Vector | ImageRefused]:
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
            return ImageInput(data=await self._object(job.key))
        except ImageRefused as refusal:
            return refusal

    async def _complete_when_idle(self) -> None:
        """Complete the collection in a watch, whose run does not end."""
        while True:
            self._worked = False
            await asyncio.sleep(COMPLETION_DELAY)
            if not self._worked and not self._finishing:
                await self._complete_collection()

    async def _complete_collection(self) -> None:
        """Build a missing index, and calibrate weak matches where that costs nothing."""
        await ensure_index(self._context, self._collection)
        try:
            await calibrate_if_free(self._context.database, self._collection, self._embedder)
        except (ModelError, SettingsError) as exc:  # the images are searchable all the same
            if str(exc) != self._calibration_error:
                self._calibration_error = str(exc)
                self._context.progress.say(f"{self._collection.bucket}: weak matches are not marked: {exc}")
