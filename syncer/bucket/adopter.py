"""Indexes what already lies in a bucket, without uploading it again.

The bucket itself is one more source beside the folders: what became of each of its objects is remembered as for a
folder's files, so that a run can be stopped anywhere, and the next one reads only what is new or changed.
"""

import asyncio
import contextlib
import logging
import shutil
import tempfile
from collections.abc import Callable, Iterator
from collections.abc import Collection as Names
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
from shared.sql.adopted_objects import ObjectState
from shared.stores.base import RESERVED_PREFIX, ObjectStore, StoredObject
from syncer.batches import batches
from syncer.bucket.scan import SOURCE, Inventory, check_object, is_settled, stat_of
from syncer.deletion_policy import NO_DELETION, DeletionPolicy
from syncer.process_locks import forget, has_ended, holder
from syncer.progress import Progress
from syncer.source_lock import turn

log = logging.getLogger(__name__)

_SCRATCH = "image-browser-scratch-"


class Adoption:
    """Indexes one bucket, or what lies under *prefix* in it, each object committed by itself.

    With *reclaim*, objects that carry the hash that we put with each of ours become the collection's own again;
    without it what was found stays somebody else's, and is never deleted by us.
    """

    def __init__(
        self,
        collection: Collection,
        *,
        prefix: str,
        suffixes: Names[str],
        reclaim: bool,
        database: Database,
        store: ObjectStore,
        decoder: DecoderPool,
        retry: RetryPolicy,
        progress: Progress,
        arrived: Callable[[], None],
        concurrency: int,
        derivatives: bool = True,
        deletion: DeletionPolicy = NO_DELETION,
    ) -> None:
        """*suffixes* are those of images, in lower case; *arrived* is called when there is something to embed."""
        self._collection = collection
        self._prefix = prefix
        self._suffixes = suffixes
        self._reclaim = reclaim
        self._source = 0
        self._database = database
        self._store = store
        self._decoder = decoder
        self._retry = retry
        self._progress = progress
        self._arrived = arrived
        self._concurrency = concurrency
        self._derivatives = derivatives
        self._deletion = deletion
        self.gone = 0
        self.withheld = ""

    async def run(self) -> bool:
        """Return True when each image of the bucket has its row, or is reported with its reason.

        While another process indexes the bucket, this one waits. Where a further one waits already, False is returned
        at once; not with a prefix, which may be another one's.

        Afterwards ``gone`` is how many adopted images stay whose objects are gone, and ``withheld`` why some stay that
        should have been removed. Raises ServiceError when the store or the database refuses, or stays away for too
        long.
        """
        self._source = await self._database.run(collections.ensure_source, collection=self._collection, name=SOURCE)
        async with turn(self._database, self._source, patient=bool(self._prefix)) as ours:
            if ours:
                await self._run()
        return ours

    async def _run(self) -> None:
        # Whoever noted something for this source has ended: it is our turn.
        await self._database.run(pending_objects.abandon_uploads, collection=self._collection, source=self._source)
        inventory = Inventory(
            self._store,
            self._prefix,
            suffixes=self._suffixes,
            database=self._database,
            collection=self._collection,
            source=self._source,
            retry=self._retry,
        )
        found: asyncio.Queue[StoredObject | None] = asyncio.Queue(maxsize=4 * self._concurrency)
        with _scratch() as scratch:
            async with asyncio.TaskGroup() as tasks:
                for number in range(self._concurrency):
                    tasks.create_task(self._work(found, scratch / str(number)))
                async for page in inventory.pages():
                    for stored, known in page:
                        if await self._is_wanted(stored, known):
                            await found.put(stored)
                for _ in range(self._concurrency):
                    await found.put(None)
        await self._settle_gone(inventory)
        await self._empty_trash()

    async def _is_wanted(self, stored: StoredObject, known: ObjectState) -> bool:
        """Whether the object is to be read, since it is new or changed; count it if not.

        What a sync brings or removes at this moment is left to it.
        """
        if known.origin == "adopted" and self._reclaim:
            await self._retry.run(self._reclaim_known, stored)
        if known.busy:
            return False
        if not is_settled(stored, known):
            return True
        if known.reason:
            self._progress.rejected_before()
        else:
            self._progress.kept()
        return False

    async def _work(self, found: asyncio.Queue[StoredObject | None], scratch: Path) -> None:
        while (stored := await found.get()) is not None:
            await self._settle(stored, scratch)

    async def _settle(self, stored: StoredObject, scratch: Path) -> None:
        """Index the object, or record why it cannot be; only a service's fault stops the run."""
        try:
            await self._retry.run(self._adopt, stored, scratch)
        except ObjectMissing as exc:
            if isinstance(exc.__cause__, ImageRefused):  # the store cannot even ask for such a key
                await self._reject(stored, exc.__cause__)
            else:
                log.info("%s is gone since it was listed", stored.key)
        except ObjectLocked as exc:
            await self._reject(stored, ImageRefused(Reason.UNREADABLE, str(exc), final=False))
        except ServiceError:
            raise
        except ImageRefused as refusal:
            await self._reject(stored, refusal)
        except OSError as exc:
            raise SettingsError(f"cannot write to {scratch.parent}: {exc.strerror}: make room, or set TMPDIR") from exc
        except Exception as exc:
            log.exception("%s could not be adopted", stored.key)
            await self._reject(stored, ImageRefused(Reason.UNREADABLE, f"it could not be adopted: {exc}", final=False))

    async def _adopt(self, stored: StoredObject, scratch: Path) -> None:
        check_object(stored)
        found = await self._store.download(stored.key, scratch)
        claimed = _claimed_digest(found)
        derived = claimed is not None and self._derivatives and await self._has_derivatives(claimed)
        examined = await self._decoder.run(examine, scratch, derivatives=self._derivatives and not derived)
        if derived and examined.sha256 != claimed:
            derived = False
            examined = await self._decoder.run(examine, scratch)
        columns = examined.columns() | ({"derivatives": True} if derived else {})
        # A listing tells milliseconds, an S3 object seconds.
        modified = stored.modified if stored.etag == found.etag else found.modified
        try:
            await ingest(
                self._database,
                self._store,
                self._collection,
                NewImage(key=found.key, origin="adopted", **columns),
                scratch,
                thumbnail=examined.thumbnail,
                preview=examined.preview,
                source=self._source,
                # Recent images come first in lists, and these are as old as their objects.
                created_at=min(modified, datetime.now(UTC)),
                recorded=partial(self._record, found, examined.sha256),
            )
        except StoreError as exc:
            if exc.transient:
                raise
            remedy = "or add --no-derivatives, which leaves the bucket as it is"
            raise StoreError(
                f"cannot store thumbnails and previews under {RESERVED_PREFIX}: {exc}; {remedy}", transient=False
            ) from exc
        self._progress.adopted()
        self._arrived()

    async def _has_derivatives(self, sha256: bytes) -> bool:
        """Whether the derivatives of this content lie in the bucket: of the two, the preview is put last."""
        try:
            await self._store.head(preview_key(sha256))
        except ObjectMissing:
            return False
        return True

    async def _record(self, found: StoredObject, sha256: bytes, conn: Connection, image_id: int) -> None:
        await files.record(
            conn,
            self._collection,
            self._source,
            found.key,
            stat=stat_of(found),
            sha256=sha256,
            image_id=image_id,
            now=datetime.now(UTC),
        )
        if self._reclaim and _claimed_digest(found) == sha256:
            await adopted_objects.reclaim(conn, self._collection, self._source, found.key, sha256)

    async def _reclaim_known(self, stored: StoredObject) -> None:
        """Make an object that was adopted before the collection's own again, where it carries our mark."""
        try:
            sha256 = _claimed_digest(await self._store.head(stored.key))
        except ObjectMissing:
            return
        if sha256:
            await self._database.run(
                adopted_objects.reclaim, collection=self._collection, source=self._source, key=stored.key, sha256=sha256
            )

    async def _reject(self, stored: StoredObject, refusal: ImageRefused) -> None:
        async def record(conn: Connection) -> None:
            await files.record(
                conn,
                self._collection,
                self._source,
                stored.key,
                stat=stat_of(stored),
                sha256=None,
                image_id=None,
                now=datetime.now(UTC),
                refusal=refusal,
            )

        await self._database.run(record)
        self._progress.failed(stored.key, refusal)

    # --- objects that are gone ------------------------------------------------------------------------------------

    async def _settle_gone(self, inventory: Inventory) -> None:
        verdict = await inventory.verdict(self._deletion)
        self.withheld = verdict.withheld
        for keys in batches(verdict.rejected + verdict.marks):
            await self._database.run(files.forget, collection=self._collection, source=self._source, paths=keys)
        removed = 0
        for keys in batches(verdict.images):
            removed += await self._database.run(
                adopted_objects.delete_images, collection=self._collection, source=self._source, keys=keys
            )
        self._progress.deleted(removed)
        self.gone = len(inventory.gone) - len(verdict.images)

    async def _empty_trash(self) -> None:
        if not self._derivatives:  # then nothing of ours in the bucket is touched
            return
        try:
            await self._retry.run(delete_pending_objects, self._database, self._store, self._collection)
        except StoreError as exc:
            log.warning("thumbnails that nobody needs any more stay in the bucket for now: %s", exc)


@contextlib.contextmanager
def _scratch() -> Iterator[Path]:
    """Give a folder for objects on their way into the decoder; those of processes that were killed are removed."""
    for left in Path(tempfile.gettempdir()).glob(f"{_SCRATCH}*"):
        with contextlib.suppress(ValueError):  # not one of ours
            owner = UUID(left.name.removeprefix(_SCRATCH))
            if has_ended(owner):
                shutil.rmtree(left, ignore_errors=True)
                forget(owner)
    with holder() as owner:
        folder = Path(tempfile.gettempdir(), f"{_SCRATCH}{owner}")
        folder.mkdir(mode=0o700)
        try:
            yield folder
        finally:
            shutil.rmtree(folder, ignore_errors=True)


def _claimed_digest(stored: StoredObject) -> bytes | None:
    """Return the SHA-256 that was put with the object, as we do with each of ours; None where there is none."""
    try:
        return bytes.fromhex(stored.sha256 or "") or None
    except ValueError:
        return None
