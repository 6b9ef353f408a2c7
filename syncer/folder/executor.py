"""Execution of a plan: uploads, moves and deletions, several at the same time."""

import asyncio
import logging
from collections.abc import AsyncIterator

from shared.errors import ImageRefused, Reason, ServiceError
from shared.images import examine
from shared.ingest import DeletedMeanwhile
from shared.models import NewImage
from shared.object_deletion import delete_pending_objects
from shared.sql import files, images, pending_objects
from shared.sql.files import FileTimes
from syncer.batches import BATCH_SIZE
from syncer.bounded_tasks import BoundedTaskGroup
from syncer.folder.actions import (
    Action,
    Delete,
    FileAction,
    Forget,
    KeepRemoved,
    Move,
    Reject,
    Skip,
    Touch,
    Unchanged,
    UpdateMetadata,
    Upload,
)
from syncer.folder.options import FolderOptions
from syncer.folder.planner import Planner
from syncer.folder.renames import move_image
from syncer.folder.scan import LocalFile
from syncer.source import Source
from syncer.target import SyncTarget

log = logging.getLogger(__name__)

# Running actions per thread of the store: while some files are decoded or wait for a shared transaction, others are
# sent. The store's threads bound the concurrent uploads, and take the next one without waiting for the event loop.
_ACTIONS_PER_UPLOAD = 4


class Executor:
    """Executes the actions of one planner, and tells it what could not be read after all."""

    def __init__(self, options: FolderOptions, source: Source, planner: Planner, target: SyncTarget) -> None:
        self._options = options
        self._source = source
        self._planner = planner
        self._target = target
        self._progress = target.progress

    async def execute(self, phase: AsyncIterator[Action]) -> None:
        """Execute all actions of a phase: those on existing files concurrently, deletions in batches."""
        deleted: list[str] = []
        forgotten: list[str] = []
        async with BoundedTaskGroup(_ACTIONS_PER_UPLOAD * self._options.concurrency) as tasks:
            async for action in phase:
                match action:
                    case Upload() | Move() | Touch() | UpdateMetadata() | KeepRemoved():
                        await tasks.start(self._apply, action)
                    case Unchanged(known):
                        self._progress.count("failed" if known.reason else "unchanged")
                    case Reject(path, refusal, stat):
                        await self._reject(path, refusal, stat)
                    case Skip(path, kind):
                        self._progress.report_skipped(path, kind)
                    case Delete(path):
                        deleted.append(path)
                    case Forget(path):
                        forgotten.append(path)
                if len(deleted) + len(forgotten) >= BATCH_SIZE:
                    await self._delete(deleted, forgotten)
        await self._delete(deleted, forgotten)

    async def _apply(self, action: FileAction) -> None:
        """Execute the action, or record why the file is rejected.

        Only a failure of a service or a lack of memory ends the run.
        """
        file = action.file
        try:
            await self._target.retry.run(self._apply_once, action)
        except (ServiceError, MemoryError):
            raise
        except ImageRefused as refusal:
            await self._reject(file.path, refusal, file.stat)
        except Exception as exc:
            log.exception("%s could not be uploaded", file.path)
            unexpected = ImageRefused(Reason.UNREADABLE, f"it could not be uploaded: {exc}", final=False)
            await self._reject(file.path, unexpected, file.stat)

    async def _apply_once(self, action: FileAction) -> None:
        match action:
            case Touch(file):
                await self._source.run(files.touch, file.path, stat=file.stat)
                self._progress.count("unchanged")
            case UpdateMetadata():
                await self._update_metadata(action)
            case KeepRemoved(file, sha256):
                await self._keep_removed(file, sha256)
            case Move():
                await self._move(action)
            case Upload():
                await self._upload(action)

    async def _update_metadata(self, update: UpdateMetadata) -> None:
        file = update.file
        sidecar = await _read_sidecar(file)
        examined = await self._target.decoder.run(examine, file.absolute, derivatives=False, sidecar=sidecar)
        image = NewImage(key=file.path, origin="folder", **examined.columns())
        await self._target.database.run(images.update_metadata, self._source.collection, update.image_id, image)
        await self._record_sidecar(file)
        self._progress.count("described")

    async def _record_sidecar(self, file: LocalFile) -> None:
        await self._source.run(files.touch, file.path, stat=file.stat, sidecar=file.sidecar_state)

    async def _move(self, move: Move) -> None:
        """Move the image, or upload the file if that is impossible."""
        try:
            if await move_image(self._source, self._target, move):
                self._progress.count("moved")
                return
            self._planner.move_failed(move)
        except ImageRefused as refusal:
            if refusal.final:
                raise
            # The old object is in the way of the new key: "A.jpg" of "a.jpg" on some disks, a file of a folder. The
            # image is uploaded again, and costs an embedding.
            await self._target.database.run(
                pending_objects.delete_images, self._target.collection, [move.image.image_id], tombstone=False
            )
            await delete_pending_objects(self._target.database, self._target.store, self._target.collection)
        await self._upload(Upload(move.file, move.known))

    async def _upload(self, upload: Upload) -> None:
        file = upload.file
        sidecar = await _read_sidecar(file)
        examined = await self._target.examine(file.absolute, derivatives=self._options.derivatives, sidecar=sidecar)
        try:
            await self._target.add_image(
                NewImage(key=file.path, origin="folder", **examined.columns()),
                file.absolute,
                examined,
                count="uploaded",
                replaces=upload.replaces,
                source=self._source.id,
                stat=file.stat,
            )
        except DeletedMeanwhile:
            await self._keep_removed(file, examined.sha256)
            return
        if file.sidecar:
            await self._record_sidecar(file)

    async def _keep_removed(self, file: LocalFile, sha256: bytes) -> None:
        await self._source.run(files.keep_removed, file.path, stat=file.stat, sha256=sha256)
        self._progress.count("unchanged")

    async def _reject(self, path: str, refusal: ImageRefused, stat: FileTimes | None) -> None:
        """Report the file, and record it for `syncer failed` unless not even the listing could read it."""
        if stat is not None:
            await self._source.run(files.record, path, stat=stat, refusal=refusal)
        if refusal.reason in {Reason.UNREADABLE, Reason.CHANGED}:
            self._planner.complete = False
        self._progress.report_failure(path, refusal)

    async def _delete(self, deleted: list[str], forgotten: list[str]) -> None:
        """Delete the images of some missing files and the records of others; empty both lists."""
        if deleted:
            self._progress.count("deleted", await self._source.run(files.delete_missing, deleted))
        if forgotten:
            await self._source.run(files.forget, forgotten)
        deleted.clear()
        forgotten.clear()


async def _read_sidecar(file: LocalFile) -> bytes:
    return await asyncio.to_thread(file.sidecar.read) if file.sidecar else b""
