"""Read the text in pending images until none is left: the second stage of the queue, independent of the first."""

import asyncio
import os
from collections.abc import Sequence
from pathlib import Path

from shared.db.pool import Connection
from shared.errors import ImageRefused, SettingsError
from shared.images.decode_memory import machine_memory
from shared.models import Collection, Job, TextLine
from shared.object_keys import preview_key
from shared.ocr.reader import TextReader, weights
from shared.sql import texts
from shared.stores.base import ObjectStore
from syncer.context import CommandContext
from syncer.settings import SyncerSettings
from syncer.stage import StageRun

# Bytes of a machine that reads pictures without being told to: the networks take 280 MB.
_MIN_MEMORY = 1_000_000_000


class ReadingRun(StageRun[list[TextLine]]):
    """Reads the text in pending images of one collection."""

    done = "read"

    def __init__(self, context: CommandContext, collection: Collection, store: ObjectStore, reader: TextReader) -> None:
        # The reader limits its concurrency itself; the other half of the workers fetches images meanwhile.
        super().__init__(context, texts.stage(collection), store, workers=2 * (os.cpu_count() or 1))
        self._reader = reader

    async def _compute(self, batch: Sequence[Job]) -> list[list[TextLine] | ImageRefused]:
        return await asyncio.gather(*(self._read(job) for job in batch))

    async def _read(self, job: Job) -> list[TextLine] | ImageRefused:
        """Read the text in the preview, in which the detector finds small print as well as in the original."""
        try:
            return await self._reader.read(await self._object(preview_key(job.sha256) if job.derivatives else job.key))
        except ImageRefused as refusal:
            return refusal

    async def _complete(self, conn: Connection, job: Job, result: list[TextLine]) -> int:
        return await texts.complete(conn, self._collection, job, result)


def find_weights(settings: SyncerSettings) -> Path | None:
    """Return the folder of the networks' weights; None if they are not installed.

    Without a setting also None if the machine is too small. Raises SettingsError for OCR=on without the weights.
    """
    if settings.ocr is None and machine_memory() < _MIN_MEMORY:
        return None
    folder = weights()
    if settings.ocr and folder is None:
        raise SettingsError(
            "OCR=on needs the packages of the extra `ocr`: run `pip install 'image-browser[ocr]'`, or set OCR=off"
        )
    return folder


async def open_reading(context: CommandContext, collection: Collection, store: ObjectStore) -> ReadingRun | None:
    """Return the run that reads the collection's images, or None without OCR.

    The setting OCR turns it on or off for the collection. Unset, the collection keeps its state; a collection without
    one gets OCR if this machine can read. Raises SettingsError for OCR=on without the packages.
    """
    wanted, folder = context.settings.ocr, find_weights(context.settings)
    if wanted is None:
        wanted = collection.ocr
    if wanted is None and folder:
        wanted = True
    if wanted is not None and wanted != collection.ocr:
        await context.database.run(texts.enable if wanted else texts.disable, collection)
    if not wanted or folder is None:
        return None
    reader = TextReader(folder, context.decoder)
    context.resources.push_async_callback(reader.close)
    return ReadingRun(context, collection, store, reader)
