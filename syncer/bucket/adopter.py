"""Index the objects of a bucket without uploading them again.

The outcome for each object is recorded under a source of its own, as for the files of a folder. So a run may stop at
any point, and the next one reads only new and changed objects.
"""

import asyncio
import contextlib
import logging
import shutil
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from uuid import UUID

from shared.db.pool import Connection, Database
from shared.errors import ImageRefused, ObjectLocked, ObjectMissing, Reason, ServiceError, SettingsError, StoreError
from shared.images import examine
from shared.images.worker_pool import DecoderPool
from shared.ingest import ingest
from shared.models import Collection, NewImage
from shared.object_deletion import delete_pending_objects
from shared.object_keys import preview_key
from shared.retry import RetryPolicy
from shared.sql import adopted_objects, collections, files, pending_objects
from shared.stores.base import RESERVED_PREFIX, ObjectStore, StoredObject
from syncer.batches import batches
from syncer.bucket.planner import BucketPlanner, ListedObject
from syncer.bucket.scan import SOURCE, BucketScan, object_stat
from syncer.deletion_policy import NO_DELETION, DeletionPolicy
from syncer.process_locks import forget, has_ended, process_lock
from syncer.progress import Progress
from syncer.source_lock import source_lock

log = logging.getLogger(__name__)

_SCRATCH = "image-browser-scratch-"


def _ignore() -> None:
    pass


@dataclass(frozen=True)
class AdoptionOptions:
    """Selection and treatment of a bucket's objects.

    Only keys that begin with ``prefix`` are adopted. With ``reclaim``, objects that carry the hash this program stores
    with its uploads become the collection's own; otherwise an adopted object is never deleted. ``on_adopted`` is called
    when there is something to embed.
    """

    prefix: str = ""
    reclaim: bool = False
    concurrency: int = 8
    derivatives: bool = True
    deletion: DeletionPolicy = NO_DELETION
    on_adopted: Callable[[], None] = _ignore


class BucketAdopter:
    """Indexes one bucket, committing object by object."""

    def __init__(
        self,
        collection: Collection,
        store: ObjectStore,
        database: Database,
        *,
        decoder: DecoderPool,
        retry: RetryPolicy,
        progress: Progress,
        options: AdoptionOptions,
    ) -> None:
        self._collection = collection
        self._store = store
        self._database = database
        self._decoder = decoder
        self._retry = retry
        self._progress = progress
        self._options = options
        self._source = 0
        self.gone = 0  # adopted images that stay although their objects are gone
        self.withheld = ""  # why requested deletions were not made

    async def run(self) -> bool:
        """Adopt the bucket, after any adoption that is running; return whether it was done.

        Returns False at once if another process is queued already, as that one will do the same work, unless there is a
        prefix, which may differ. Raises ServiceError if a service refuses or an outage outlasts the retry policy.
        """
        self._source = await self._database.run(collections.ensure_source, self._collection, SOURCE)
        async with source_lock(self._database, self._source, wait=bool(self._options.prefix)) as ours:
            if ours:
                await self._adopt_all()
        return ours

    async def _adopt_all(self) -> None:
        # We hold the source lock, so remaining upload intents are stale.
        await self._database.run(pending_objects.abandon_uploads, self._collection, source=self._source)
        scan = BucketScan(
            self._store,
            self._options.prefix,
            database=self._database,
            collection=self._collection,
            source=self._source,
            retry=self._retry,
        )
        planner = BucketPlanner(scan, self._options.deletion)
        await self._adopt_listed(planner)
        await self._delete_missing(planner)
        await self._delete_pending_objects()

    async def _adopt_listed(self, planner: BucketPlanner) -> None:
        to_adopt: asyncio.Queue[StoredObject | None] = asyncio.Queue(maxsize=4 * self._options.concurrency)
        with _scratch_folder() as scratch:
            async with asyncio.TaskGroup() as tasks:
                for number in range(self._options.concurrency):
                    tasks.create_task(self._work(to_adopt, scratch / str(number)))
                async for listed in planner.listed():
                    if listed.was_adopted and self._options.reclaim:
                        await self._reclaim(listed.stored)
                    if listed.step.kind in {"new", "edited"}:
                        await to_adopt.put(listed.stored)
                    else:
                        await self._skip(listed)
                for _ in range(self._options.concurrency):
                    await to_adopt.put(None)

    async def _skip(self, listed: ListedObject) -> None:
        """Count an object that need not or cannot be adopted."""
        if listed.refusal:
            await self._reject(listed.stored, listed.refusal)
        elif listed.step.kind == "unreadable":
            self._progress.count("failed")
        else:
            self._progress.count("unchanged")

    async def _work(self, to_adopt: "asyncio.Queue[StoredObject | None]", scratch: Path) -> None:
        while stored := await to_adopt.get():
            await self._adopt_or_reject(stored, scratch)

    async def _adopt_or_reject(self, stored: StoredObject, scratch: Path) -> None:
        """Index the object, or record why that is impossible; only errors of services escape."""
        try:
            await self._retry.run(self._adopt, stored, scratch)
        except ObjectMissing as exc:
            if isinstance(exc.__cause__, ImageRefused):  # a key that the store cannot request
                await self._reject(stored, exc.__cause__)
            else:
                log.info("%s was deleted since it was listed", stored.key)
        except ObjectLocked as exc:
            await self._reject(stored, ImageRefused(Reason.UNREADABLE, str(exc), final=False))
        except ServiceError:
            raise
        except ImageRefused as refusal:
            await self._reject(stored, refusal)
        except OSError as exc:
            raise SettingsError(f"cannot write to {scratch.parent}: {exc.strerror}; free space or set TMPDIR") from exc
        except Exception as exc:
            log.exception("%s could not be adopted", stored.key)
            await self._reject(stored, ImageRefused(Reason.UNREADABLE, f"adopting failed: {exc}", final=False))

    async def _adopt(self, listed: StoredObject, scratch: Path) -> None:
        stored = await self._store.download(listed.key, scratch)
        image, thumbnail, preview = await self._examine(stored, scratch)
        # A listing has milliseconds, an S3 object only seconds.
        modified = listed.modified if listed.etag == stored.etag else stored.modified
        try:
            await ingest(
                self._database,
                self._store,
                self._collection,
                image,
                scratch,
                thumbnail=thumbnail,
                preview=preview,
                source=self._source,
                # Lists show recent images first, and an adopted image is as old as its object.
                created_at=min(modified, datetime.now(UTC)),
                before_commit=partial(self._record, stored, image.sha256),
            )
        except StoreError as exc:
            if exc.transient:
                raise
            raise StoreError(
                f"cannot store thumbnails and previews under {RESERVED_PREFIX}: {exc}; or pass --no-derivatives, which"
                " writes nothing to the bucket",
                transient=False,
            ) from exc
        self._progress.count("adopted")
        self._options.on_adopted()

    async def _examine(self, stored: StoredObject, scratch: Path) -> tuple[NewImage, bytes | None, bytes | None]:
        """Return the image in *scratch* with thumbnail and preview, which are None if the bucket has them already."""
        claimed = _claimed_sha256(stored)
        wanted = self._options.derivatives
        existing = wanted and claimed is not None and await self._has_derivatives(claimed)
        examined = await self._decoder.run(examine, scratch, derivatives=wanted and not existing)
        if existing and examined.sha256 != claimed:
            existing = False
            examined = await self._decoder.run(examine, scratch)
        columns = examined.columns() | ({"derivatives": True} if existing else {})
        return NewImage(key=stored.key, origin="adopted", **columns), examined.thumbnail, examined.preview

    async def _has_derivatives(self, sha256: bytes) -> bool:
        """Return whether the bucket has thumbnail and preview of this content; the preview is stored last."""
        try:
            await self._store.head(preview_key(sha256))
        except ObjectMissing:
            return False
        return True

    async def _record(self, stored: StoredObject, sha256: bytes, conn: Connection, image_id: int) -> None:
        await files.record(
            conn,
            self._collection,
            self._source,
            stored.key,
            stat=object_stat(stored),
            sha256=sha256,
            image_id=image_id,
            now=datetime.now(UTC),
        )
        if self._options.reclaim and _claimed_sha256(stored) == sha256:
            await adopted_objects.reclaim(conn, self._collection, self._source, stored.key, sha256)

    async def _reclaim(self, stored: StoredObject) -> None:
        """Make an object that an earlier run adopted the collection's own, if this program uploaded it."""
        try:
            sha256 = _claimed_sha256(await self._retry.run(self._store.head, stored.key))
        except ObjectMissing:
            return
        if sha256:
            await self._database.run(adopted_objects.reclaim, self._collection, self._source, stored.key, sha256)

    async def _reject(self, stored: StoredObject, refusal: ImageRefused) -> None:
        await self._database.run(
            files.record,
            self._collection,
            self._source,
            stored.key,
            stat=object_stat(stored),
            sha256=None,
            image_id=None,
            now=datetime.now(UTC),
            refusal=refusal,
        )
        self._progress.report_failure(stored.key, refusal)

    async def _delete_missing(self, planner: BucketPlanner) -> None:
        steps = await planner.missing()
        self.withheld = planner.withheld
        self.gone = sum(step.kind == "gone" for step in steps)
        for keys in batches(planner.forgotten):
            await self._database.run(files.forget, self._collection, self._source, keys)
        for keys in batches([step.path for step in steps if step.kind == "deleted"]):
            deleted = await self._database.run(adopted_objects.delete_images, self._collection, self._source, keys)
            self._progress.count("deleted", deleted)

    async def _delete_pending_objects(self) -> None:
        if not self._options.derivatives:  # such a run does not write to the bucket
            return
        try:
            await self._retry.run(delete_pending_objects, self._database, self._store, self._collection)
        except StoreError as exc:
            log.warning("unused thumbnails could not be deleted from the bucket yet: %s", exc)


@contextlib.contextmanager
def _scratch_folder() -> Iterator[Path]:
    """Create a folder for objects to decode; remove those of killed processes."""
    for leftover in Path(tempfile.gettempdir()).glob(f"{_SCRATCH}*"):
        with contextlib.suppress(ValueError):  # not one of ours
            owner = UUID(leftover.name.removeprefix(_SCRATCH))
            if has_ended(owner):
                shutil.rmtree(leftover, ignore_errors=True)
                forget(owner)
    with process_lock() as owner:
        folder = Path(tempfile.gettempdir(), f"{_SCRATCH}{owner}")
        folder.mkdir(mode=0o700)
        try:
            yield folder
        finally:
            shutil.rmtree(folder, ignore_errors=True)


def _claimed_sha256(stored: StoredObject) -> bytes | None:
    """Return the SHA-256 in the object's metadata, which every upload of this program has."""
    try:
        return bytes.fromhex(stored.sha256 or "") or None
    except ValueError:
        return None
