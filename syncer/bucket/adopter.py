"""Index the objects of a bucket without uploading them again.

The outcome for each object is recorded under a source of its own, as for the files of a folder. So a run may stop at
any point, and the next one reads only new and changed objects.
"""

import asyncio
import contextlib
import logging
import shutil
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from tempfile import NamedTemporaryFile
from uuid import UUID

from shared.db.pool import Connection
from shared.errors import ImageRefused, ObjectLocked, ObjectMissing, Reason, ServiceError, SettingsError, StoreError
from shared.images import Examined, examine
from shared.images.metadata.xmp import MAX_BYTES as MAX_SIDECAR
from shared.models import NewImage
from shared.object_keys import preview_key
from shared.sql import adopted_objects, files, images, pending_objects
from shared.sql.adopted_objects import AdoptedImage
from shared.stores.base import RESERVED_PREFIX, StoredObject
from syncer.batches import batches
from syncer.bounded_tasks import BoundedTaskGroup
from syncer.bucket.planner import BucketPlanner
from syncer.bucket.scan import SOURCE, BucketScan, object_stat, sidecar_state
from syncer.deletion_policy import DeletionPolicy
from syncer.process_locks import forget, has_ended, process_lock
from syncer.source import Source
from syncer.source_lock import source_lock
from syncer.target import SyncTarget

log = logging.getLogger(__name__)

_SCRATCH = "image-browser-scratch-"


@dataclass(frozen=True)
class AdoptionOptions:
    """Selection and treatment of a bucket's objects.

    Only keys that begin with ``prefix`` are adopted. With ``reclaim``, objects that carry the hash this program stores
    with its uploads become the collection's own; otherwise an adopted object is never deleted.
    """

    prefix: str = ""
    reclaim: bool = False
    concurrency: int = 8
    derivatives: bool = True
    deletion: DeletionPolicy = DeletionPolicy()


@dataclass
class BucketAdopter:
    """Indexes one bucket, committing object by object.

    After a run, ``gone`` counts adopted images that stay although their objects are gone, and ``withheld`` tells why
    requested deletions were not made.
    """

    target: SyncTarget
    options: AdoptionOptions
    gone: int = 0
    withheld: str = ""
    _source: Source = field(init=False)

    async def run(self) -> bool:
        """Adopt the bucket once no other adoption is running; return whether it was done.

        Without a prefix, return False at once if another process is already queued, because it will do the same work.
        Raises ServiceError if a service refuses or an outage outlasts the retry policy.
        """
        self._source = await self.target.ensure_source(SOURCE)
        async with source_lock(self._source, wait=bool(self.options.prefix)) as acquired:
            if acquired:
                await self._adopt_all()
        return acquired

    async def _adopt_all(self) -> None:
        # We hold the source lock, so remaining upload intents are stale.
        await self._source.run(pending_objects.abandon_uploads)
        scan = BucketScan(self.target.store, self.options.prefix, source=self._source, retry=self.target.retry)
        planner = BucketPlanner(scan, self.options.deletion)
        await self._adopt_listed(planner)
        await self._delete_missing(planner)
        await self._delete_pending_objects()

    async def _adopt_listed(self, planner: BucketPlanner) -> None:
        with _scratch_folder() as scratch:
            async with BoundedTaskGroup(self.options.concurrency) as tasks:
                async for listed in planner.listed():
                    if listed.was_adopted and self.options.reclaim:
                        await self._reclaim(listed.stored)
                    if listed.step.kind in {"new", "edited"}:
                        sidecar = planner.sidecar(listed.stored.key)
                        await tasks.start(self._adopt_or_reject, listed.stored, sidecar, scratch)
                    elif listed.step.kind == "skipped":
                        self.target.progress.report_skipped(listed.stored.key, listed.step.detail)
                    elif listed.refusal:
                        await self._reject(listed.stored, listed.refusal)
                    else:
                        self.target.progress.count("failed" if listed.step.kind == "unreadable" else "unchanged")
            async with BoundedTaskGroup(self.options.concurrency) as tasks:
                async for image in planner.described():
                    await tasks.start(self._update_or_skip, image, planner.sidecar(image.key), scratch)

    async def _adopt_or_reject(self, stored: StoredObject, sidecar: StoredObject | None, scratch: Path) -> None:
        """Index the object, or record why that is impossible; only errors of services escape."""
        try:
            with _scratch_file(scratch) as file:
                await self.target.retry.run(self._adopt, stored, sidecar, file)
        except ObjectMissing as exc:
            if isinstance(exc.__cause__, ImageRefused):  # a key that the store cannot request
                await self._reject(stored, exc.__cause__)
            else:
                log.info("%s was deleted since it was listed", stored.key)
        except ObjectLocked as exc:
            await self._reject(stored, ImageRefused(Reason.UNREADABLE, str(exc), final=False))
        except (ServiceError, SettingsError, MemoryError):
            raise
        except ImageRefused as refusal:
            await self._reject(stored, refusal)
        except Exception as exc:
            log.exception("%s could not be adopted", stored.key)
            await self._reject(stored, ImageRefused(Reason.UNREADABLE, f"adopting failed: {exc}", final=False))

    async def _adopt(self, listed: StoredObject, sidecar: StoredObject | None, file: Path) -> None:
        description = await self._read_sidecar(sidecar, file)
        stored = await self.target.store.download(listed.key, file)
        image, examined = await self._examine(stored, file, description)
        # A listing has milliseconds, an S3 object only seconds.
        modified = listed.modified if listed.etag == stored.etag else stored.modified
        try:
            await self.target.add_image(
                image,
                file,
                examined,
                count="adopted",
                source=self._source.id,
                # Lists show recent images first, and an adopted image is as old as its object.
                created_at=min(modified, datetime.now(UTC)),
                before_commit=partial(self._record, stored, sidecar, image.sha256),
            )
        except StoreError as exc:
            if exc.transient:
                raise
            raise StoreError(
                f"cannot store thumbnails and previews under {RESERVED_PREFIX}: {exc}; or pass --no-derivatives, which"
                " writes nothing to the bucket",
                transient=False,
            ) from exc

    async def _examine(self, stored: StoredObject, file: Path, sidecar: bytes) -> tuple[NewImage, Examined]:
        """Return the image in *file*, without thumbnail and preview if the bucket has them already."""
        claimed = _claimed_sha256(stored)
        wanted = self.options.derivatives
        existing = wanted and claimed is not None and await self._has_derivatives(claimed)
        examined = await self.target.examine(file, derivatives=wanted and not existing, sidecar=sidecar)
        if existing and examined.sha256 != claimed:
            existing = False
            examined = await self.target.examine(file, sidecar=sidecar)
        columns = examined.columns() | ({"derivatives": True} if existing else {})
        return NewImage(key=stored.key, origin="adopted", **columns), examined

    async def _has_derivatives(self, sha256: bytes) -> bool:
        """Return whether the bucket has thumbnail and preview of this content; the preview is stored last."""
        try:
            await self.target.store.head(preview_key(sha256))
        except ObjectMissing:
            return False
        return True

    async def _read_sidecar(self, sidecar: StoredObject | None, file: Path) -> bytes:
        """Return the content of the sidecar; b"" if there is none, or if it cannot be read or is too large."""
        if sidecar is None or sidecar.size > MAX_SIDECAR:
            return b""
        try:
            await self.target.store.download(sidecar.key, file)
        except (ObjectMissing, ObjectLocked, ImageRefused):
            return b""
        return await asyncio.to_thread(file.read_bytes) if file.stat().st_size <= MAX_SIDECAR else b""

    async def _update_or_skip(self, image: AdoptedImage, sidecar: StoredObject | None, scratch: Path) -> None:
        """Read the metadata of the image and its sidecar again, unless its object has changed since it was listed."""
        try:
            with _scratch_file(scratch) as file:
                await self.target.retry.run(self._update_metadata, image, sidecar, file)
        except (ObjectMissing, ObjectLocked, ImageRefused) as exc:
            log.info("the metadata of %s could not be updated: %s", image.key, exc)
        except (ServiceError, SettingsError, MemoryError):
            raise
        except Exception:
            log.exception("the metadata of %s could not be updated", image.key)

    async def _update_metadata(self, image: AdoptedImage, sidecar: StoredObject | None, file: Path) -> None:
        description = await self._read_sidecar(sidecar, file)
        await self.target.store.download(image.key, file)
        examined = await self.target.decoder.run(examine, file, derivatives=False, sidecar=description)
        new = NewImage(key=image.key, origin="adopted", **examined.columns())
        await self.target.database.run(images.update_metadata, self.target.collection, image.id, new)
        await self._source.run(files.record_sidecar, image.key, state=sidecar_state(sidecar))
        self.target.progress.count("described")

    async def _record(
        self, stored: StoredObject, sidecar: StoredObject | None, sha256: bytes, conn: Connection, image_id: int
    ) -> None:
        collection, source, key = self.target.collection, self._source.id, stored.key
        stat = object_stat(stored)
        await files.record(conn, collection, source, key, stat=stat, sha256=sha256, image_id=image_id)
        if sidecar:
            await files.record_sidecar(conn, collection, source, key, state=sidecar_state(sidecar))
        if self.options.reclaim and _claimed_sha256(stored) == sha256:
            await adopted_objects.reclaim(conn, collection, source, key, sha256)

    async def _reclaim(self, stored: StoredObject) -> None:
        """Make an object that an earlier run adopted the collection's own, if this program uploaded it."""
        try:
            sha256 = _claimed_sha256(await self.target.retry.run(self.target.store.head, stored.key))
        except ObjectMissing:
            return
        if sha256:
            await self._source.run(adopted_objects.reclaim, stored.key, sha256)

    async def _reject(self, stored: StoredObject, refusal: ImageRefused) -> None:
        await self._source.run(files.record, stored.key, stat=object_stat(stored), refusal=refusal)
        self.target.progress.report_failure(stored.key, refusal)

    async def _delete_missing(self, planner: BucketPlanner) -> None:
        steps = await planner.missing()
        self.withheld = planner.withheld
        self.gone = sum(step.kind == "gone" for step in steps)
        for keys in batches(planner.forgotten):
            await self._source.run(files.forget, keys)
        for keys in batches([step.path for step in steps if step.kind == "deleted"]):
            self.target.progress.count("deleted", await self._source.run(adopted_objects.delete_images, keys))

    async def _delete_pending_objects(self) -> None:
        if not self.options.derivatives:  # such a run does not write to the bucket
            return
        try:
            await self.target.delete_pending_objects()
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


@contextlib.contextmanager
def _scratch_file(folder: Path) -> Iterator[Path]:
    try:
        with NamedTemporaryFile(dir=folder) as file:
            yield Path(file.name)
    except OSError as exc:
        raise SettingsError(f"cannot write to {folder}: {exc.strerror}; free space or set TMPDIR") from exc


def _claimed_sha256(stored: StoredObject) -> bytes | None:
    """Return the SHA-256 in the object's metadata, which every upload of this program has."""
    try:
        return bytes.fromhex(stored.sha256 or "") or None
    except ValueError:
        return None
