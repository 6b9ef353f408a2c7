"""The first phase: brings what is new or changed in a folder to the bucket, and makes its rows."""

import asyncio
import logging
from collections.abc import AsyncIterator, Callable, Sequence
from datetime import UTC, datetime
from functools import partial
from pathlib import Path

from shared.db.pool import Connection, Database
from shared.errors import ImageRefused, Reason, ServiceError
from shared.images import examine
from shared.images.worker_pool import DecoderPool
from shared.ingest import Ingestion
from shared.models import Collection, KnownFile, NewImage
from shared.object_deletion import delete_pending_objects
from shared.retry import RetryPolicy
from shared.sql import collections, files, pending_objects
from shared.sql.files import Copy, Tombstone
from shared.stores.base import ObjectStore, check_key
from syncer.batches import BATCH_SIZE, batches
from syncer.deletion_policy import NO_DELETION, DeletionPolicy
from syncer.folder.deletion import judge
from syncer.folder.ignore import Selection
from syncer.folder.planner import Action, Gone, Keep, Report, Upload
from syncer.folder.renames import PARKED, is_free, move
from syncer.folder.scan import LocalFile, digest
from syncer.folder.state_scan import planned
from syncer.progress import Progress
from syncer.source_lock import turn

log = logging.getLogger(__name__)

# So many images are in hand for each that travels, so that those which are decoded, and those which wait to share a
# transaction, keep none from travelling.
_IN_HAND = 8


class _RemovedMeanwhile(Exception):
    """The image of a content was removed through the API while a file with this content was brought over."""


class Uploader:
    """Brings one folder over to one collection, each image committed once it lies there: a run can be stopped anywhere.

    Content is what an image is known by. A file that is there under another name keeps its image, wherever it went.
    So that this holds for names that were swapped, too, files that are new are settled first, then those whose content
    has changed, and in the end what is gone.
    """

    def __init__(
        self,
        folder: Path,
        collection: Collection,
        *,
        source: str,
        selection: Selection,
        database: Database,
        store: ObjectStore,
        decoder: DecoderPool,
        retry: RetryPolicy,
        progress: Progress,
        arrived: Callable[[], None],
        concurrency: int,
        derivatives: bool = True,
        deletion: DeletionPolicy = NO_DELETION,
        at_rest: Callable[[LocalFile], bool] = lambda file: True,
    ) -> None:
        """*source* is what the folder is known by; *arrived* is called when there is something to embed.

        New and changed files that are not *at_rest* are left for another run.
        """
        self._folder = folder
        self._collection = collection
        self._source_name = source
        self._source = 0
        self._selection = selection
        self._database = database
        self._store = store
        self._decoder = decoder
        self._retry = retry
        self._progress = progress
        self._arrived = arrived
        self._concurrency = concurrency
        self._derivatives = derivatives
        self._deletion = deletion
        self._at_rest = at_rest
        self._first_sync = False
        self._edited: dict[str, bytes] = {}
        self._gone: list[str] = []
        self._incomplete = self._met_any = False
        self.withheld = ""

    async def run(self, paths: Sequence[str] | None = None) -> bool:
        """Return True when each file of the folder is in the bucket, or is reported with its reason.

        With *paths*, relative to the folder, only what lies at and below them is looked at, and nothing else is ever
        taken for gone. While another process brings the folder over, this one waits. Without *paths*, False is
        returned at once where a further process waits already.

        What ``--delete`` should have removed, and did not, is said in ``withheld``. Raises ServiceError when the store
        or the database refuses, or stays away for too long.
        """
        self._source = await self._database.run(
            collections.ensure_source, collection=self._collection, name=self._source_name
        )
        self._ingestion = Ingestion(
            self._database,
            self._store,
            self._collection,
            source=self._source,
            concurrency=self._concurrency,
        )
        async with turn(self._database, self._source, patient=paths is not None) as ours:
            if ours:
                await self._run(paths)
        return ours

    async def _run(self, paths: Sequence[str] | None) -> None:
        self._edited, self._gone, self.withheld = {}, [], ""
        self._incomplete = self._met_any = False
        self._selection.forget_ignore_files()
        self._first_sync = not await self._database.run(
            files.knows_any, collection=self._collection, source=self._source
        )
        # Whoever noted something for this source has ended: it is our turn.
        await self._database.run(pending_objects.abandon_uploads, collection=self._collection, source=self._source)
        await self._work_off(self._planned([""] if paths is None else paths))
        if self._edited:
            await self._make_way()
            await self._work_off(self._planned(list(self._edited)))
        if paths is None and self._met_any and not self._incomplete:
            await self._clear_parked()
        await self._settle_gone()
        await self._retry.run(delete_pending_objects, self._database, self._store, self._collection)

    def _planned(self, paths: Sequence[str]) -> AsyncIterator[Action]:
        return planned(self._folder, self._selection, self._database, self._collection, self._source, paths)

    async def _work_off(self, actions: AsyncIterator[Action]) -> None:
        uploads: asyncio.Queue[Upload | None] = asyncio.Queue(maxsize=4 * self._concurrency)
        second_look = bool(self._edited)
        async with asyncio.TaskGroup() as tasks:
            for _ in range(_IN_HAND * self._concurrency):
                tasks.create_task(self._work(uploads, second_look=second_look))
            async for action in actions:
                self._met_any |= isinstance(action, (Upload, Keep))
                match action:
                    case Upload(file) if not self._at_rest(file):
                        self._incomplete = True
                    case Upload():
                        await uploads.put(action)
                    case Keep(known):
                        self._known_before(known)
                    case Gone(known):
                        self._gone.append(known.path)
                    case Report(unlisted):
                        self._incomplete |= unlisted.refusal.reason is Reason.UNREADABLE
                        self._progress.failed(unlisted.path, unlisted.refusal)
            for _ in range(_IN_HAND * self._concurrency):
                await uploads.put(None)

    async def _work(self, uploads: asyncio.Queue[Upload | None], *, second_look: bool) -> None:
        while (upload := await uploads.get()) is not None:
            await self._settle(upload.file, upload.known, second_look=second_look)

    def _known_before(self, known: KnownFile) -> None:
        if known.reason:
            self._progress.rejected_before()
        else:
            self._progress.kept()

    # --- files that are there -------------------------------------------------------------------------------------

    async def _settle(self, file: LocalFile, known: KnownFile | None, *, second_look: bool) -> None:
        """Bring the file over, or record why it cannot be; only a service's fault stops the run."""
        try:
            await self._retry.run(self._bring, file, known, second_look=second_look)
        except ServiceError:
            raise
        except ImageRefused as refusal:
            await self._reject(file, refusal)
        except Exception as exc:
            log.exception("%s could not be uploaded", file.path)
            await self._reject(file, ImageRefused(Reason.UNREADABLE, f"it could not be uploaded: {exc}", final=False))

    async def _bring(self, file: LocalFile, known: KnownFile | None, *, second_look: bool) -> None:
        check_key(file.path)
        if self._first_sync:  # nothing can have been moved here, and nothing was removed
            await self._upload(file, known)
            return
        content = await asyncio.to_thread(digest, file.absolute)
        settled = known if known and (known.image_id is not None or known.removed) else None
        if settled and settled.sha256 == content and not await self._is_doubtful(settled):
            await self._database.run(self._touched, file=file)
            self._progress.kept()
        elif settled and not second_look:
            self._edited[file.path] = content
        else:
            await self._settle_content(file, content, known)

    async def _settle_content(self, file: LocalFile, sha256: bytes, known: KnownFile | None) -> None:
        """Give the file the image that its content had under another name; upload it where there is none.

        Content whose image was removed through the API stays removed; where the folder holds it a second time, so does
        a file that has changed its name.
        """
        content = await self._database.run(
            files.content,
            collection=self._collection,
            source=self._source,
            sha256=sha256,
            path=file.path,
            image_id=known.image_id if known else None,
        )
        if content.removed:
            await self._database.run(self._stays_removed, file, sha256)
            self._progress.kept()
        elif not content.taken and await self._move_here(file, content.copies, known):
            self._progress.moved()
        elif await self._takes_over(file, content.marks):
            self._progress.kept()
        else:
            try:
                await self._upload(file, known, sha256 if content.copies else None)
            except _RemovedMeanwhile:
                await self._database.run(self._stays_removed, file, sha256)
                self._progress.kept()

    async def _takes_over(self, file: LocalFile, marks: Sequence[Tombstone]) -> bool:
        """Whether the file is one whose image was removed, under another name; then that is remembered of it."""
        for mark in marks:
            free = await asyncio.to_thread(is_free, self._folder, mark, file)
            if free and await self._database.run(self._renamed, file, mark):
                return True
        return False

    async def _renamed(self, conn: Connection, file: LocalFile, mark: Tombstone) -> bool:
        # Another file of the same content may have been quicker.
        if not await files.unmark(conn, self._collection, self._source, mark):
            return False
        await self._stays_removed(conn, file, mark.sha256)
        return True

    async def _is_doubtful(self, known: KnownFile) -> bool:
        return known.image_id is not None and await self._database.run(
            files.is_doubtful, collection=self._collection, key=known.path
        )

    async def _move_here(self, file: LocalFile, copies: Sequence[Copy], known: KnownFile | None) -> bool:
        replaces = known is not None and known.image_id is not None
        for copy in copies:
            free = copy.movable and await asyncio.to_thread(is_free, self._folder, copy, file)
            # Another file of the same content may have been quicker.
            if free and await self._move(copy, file, replaces=replaces):
                return True
        return False

    async def _move(self, copy: Copy, file: LocalFile, *, replaces: bool) -> bool:
        go = partial(move, self._database, self._store, self._collection, self._source)
        try:
            return await go(copy, path=file.path, stat=file.stat, replaces=replaces)
        except ImageRefused as refusal:
            if refusal.final or copy.key.startswith(PARKED):
                raise
        # The old name may be what is in the way of the new one: "A.jpg" of "a.jpg" on some disks, a file of a folder.
        await self._park(copy)
        await delete_pending_objects(self._database, self._store, self._collection)
        parked = Copy(**{**vars(copy), "key": _parking_place(copy), "path": _parking_place(copy)})
        return await go(parked, path=file.path, stat=file.stat, replaces=replaces)

    async def _upload(self, file: LocalFile, known: KnownFile | None, sha256: bytes | None = None) -> None:
        """Upload the file; what an image of the content *sha256* tells of it is not found out again."""
        thumbnail = preview = image = None
        if sha256:
            image = await self._database.run(files.described, collection=self._collection, sha256=sha256, key=file.path)
        if image is None or (self._derivatives and not image.derivatives):
            examined = await self._decoder.run(examine, file.absolute, derivatives=self._derivatives)
            image = NewImage(key=file.path, origin="folder", **examined.columns())
            thumbnail, preview = examined.thumbnail, examined.preview
        await self._ingestion.bring(
            image,
            file.absolute,
            thumbnail=thumbnail,
            preview=preview,
            replaces=known is not None and known.image_id is not None,
            stat=file.stat,
            recorded=None if self._first_sync else partial(self._check_not_removed, image.sha256),
        )
        self._progress.uploaded()
        self._arrived()

    async def _check_not_removed(self, sha256: bytes, conn: Connection, image_id: int) -> None:
        if await files.is_removed(conn, self._collection, self._source, sha256):
            raise _RemovedMeanwhile

    async def _touched(self, conn: Connection, file: LocalFile) -> None:
        await files.touch(conn, self._collection, self._source, file.path, stat=file.stat, now=datetime.now(UTC))

    async def _stays_removed(self, conn: Connection, file: LocalFile, sha256: bytes) -> None:
        now = datetime.now(UTC)
        await files.record_removed(
            conn, self._collection, self._source, file.path, stat=file.stat, sha256=sha256, now=now
        )

    async def _reject(self, file: LocalFile, refusal: ImageRefused) -> None:
        async def record(conn: Connection) -> None:
            await files.record(
                conn,
                self._collection,
                self._source,
                file.path,
                stat=file.stat,
                sha256=None,
                image_id=None,
                now=datetime.now(UTC),
                refusal=refusal,
            )

        await self._database.run(record)
        if refusal.reason in {Reason.UNREADABLE, Reason.CHANGED}:
            self._incomplete = True
        self._progress.failed(file.path, refusal)

    # --- images in each other's way -------------------------------------------------------------------------------

    async def _make_way(self) -> None:
        """Put aside the images of edited files whose former content other edited files have now, as when names were
        swapped: under their keys, they would be written over.

        What was removed is put aside in any case: the file that has its content now may not even be looked at.
        """
        wanted = set(self._edited.values())
        for paths in batches(list(self._edited)):
            await self._database.run(self._keep_removed, paths)
            for copy in await self._database.run(
                files.in_the_way, collection=self._collection, source=self._source, paths=paths
            ):
                if copy.sha256 in wanted:
                    await self._retry.run(self._park, copy)

    async def _keep_removed(self, conn: Connection, paths: Sequence[str]) -> None:
        await files.keep_removed(conn, self._collection, self._source, paths, under=PARKED)

    async def _park(self, copy: Copy) -> None:
        await move(
            self._database,
            self._store,
            self._collection,
            self._source,
            copy,
            path=_parking_place(copy),
            stat=copy.stat,
            replaces=True,
        )

    async def _clear_parked(self) -> None:
        """Remove what was put aside and is nobody's content any more: it was written over."""

        async def remove(conn: Connection) -> bool:
            at = PARKED.removesuffix("/")
            left = await files.after(conn, self._collection, self._source, "", limit=BATCH_SIZE, at=at)
            ids = [row.image_id for row in left if row.image_id is not None]
            await pending_objects.delete_images(conn, self._collection, ids, tombstone=False)
            await files.forget(conn, self._collection, self._source, [row.path for row in left])
            return bool(left)

        while await self._database.run(remove):
            pass

    # --- files that are gone --------------------------------------------------------------------------------------

    async def _settle_gone(self) -> None:
        verdict = await judge(
            self._folder,
            self._selection,
            self._database,
            self._collection,
            self._source,
            self._gone,
            deletion=self._deletion,
            complete=not self._incomplete,
        )
        self.withheld = verdict.withheld
        for paths in batches(verdict.rejected + verdict.marks):
            await self._database.run(files.forget, collection=self._collection, source=self._source, paths=paths)
        for paths in batches(verdict.images):
            self._progress.deleted(await self._database.run(self._remove, paths))

    async def _remove(self, conn: Connection, paths: Sequence[str]) -> int:
        rows = await files.gone(conn, self._collection, self._source, paths)
        ids = [row.image_id for row in rows if row.own and row.image_id is not None]
        return await pending_objects.delete_images(conn, self._collection, ids, tombstone=False)


def _parking_place(copy: Copy) -> str:
    return f"{PARKED}{copy.image_id}"
