"""Indexes what already lies in a bucket, without uploading it again.

The bucket itself is one more source beside the folders: what became of each of its objects is remembered as for a
folder's files, so that a run can be stopped anywhere, and the next one reads only what is new or changed.
"""

import asyncio
import hashlib
import logging
import os
import tempfile
from collections.abc import AsyncIterator, Callable
from collections.abc import Collection as Names
from datetime import UTC, datetime
from functools import partial
from pathlib import Path

from shared.db.pool import Connection, Database
from shared.decoding import Decoder
from shared.derivatives import preview_key
from shared.errors import ImageRefused, ObjectMissing, Reason, ServiceError, SettingsError
from shared.images import examine
from shared.ingest import ingest
from shared.model import Collection, NewImage
from shared.sql import adopting, collections, files
from shared.sql.adopting import KnownObject
from shared.stores import RESERVED_PREFIX, ObjectStore, StoredObject, check_key
from syncer.outage import Outages
from syncer.progress import Progress

log = logging.getLogger(__name__)

# No folder's source is called so: theirs hold a host's name, or what a user gave.
SOURCE = ".bucket"
MAX_BYTES = 2 << 30  # of one object: it is copied to this machine's disk to be decoded
_PAGE = 1000  # objects, as many as S3 lists in one request
_AFTER_RESERVED = RESERVED_PREFIX + "\U0010ffff"


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
        decoder: Decoder,
        outages: Outages,
        progress: Progress,
        arrived: Callable[[], None],
        concurrency: int,
        derivatives: bool = True,
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
        self._outages = outages
        self._progress = progress
        self._arrived = arrived
        self._concurrency = concurrency
        self._derivatives = derivatives

    async def run(self) -> None:
        """Return when each image of the bucket has its row, or is reported with its reason.

        Raises ServiceError when the store or the database refuses, or stays away for too long.
        """
        self._source = await self._database.run(
            partial(collections.ensure_source, collection=self._collection, name=SOURCE)
        )
        found: asyncio.Queue[StoredObject | None] = asyncio.Queue(maxsize=4 * self._concurrency)
        with tempfile.TemporaryDirectory(prefix="image-browser-") as scratch:
            async with asyncio.TaskGroup() as tasks:
                for number in range(self._concurrency):
                    tasks.create_task(self._work(found, Path(scratch, str(number))))
                async for stored in self.unknown():
                    await found.put(stored)
                for _ in range(self._concurrency):
                    await found.put(None)

    async def unknown(self) -> AsyncIterator[StoredObject]:
        """Yield the objects that are to be read: images by their names, or without a suffix, that are new or changed.

        The others are counted. What a sync brings or removes at this moment is left to it.
        """
        async for page in self._pages():
            wanted = [stored for stored in page if self._may_be_image(stored.key)]
            query = partial(
                adopting.known,
                collection=self._collection,
                source=self._source,
                keys=[stored.key for stored in wanted],
            )
            for stored, known in zip(wanted, await self._database.run(query), strict=True):
                if known.origin == "adopted" and self._reclaim:
                    await self._outages.outlast(partial(self._reclaim_known, stored))
                if known.in_hand:
                    continue
                if not _settled(stored, known):
                    yield stored
                elif known.reason:
                    self._progress.rejected_before()
                else:
                    self._progress.kept()

    async def _pages(self) -> AsyncIterator[list[StoredObject]]:
        """Yield what the bucket lists, without what is ours beside the images; an outage continues where it began."""
        after = ""
        listing = self._store.list(self._prefix)

        async def following() -> list[StoredObject]:
            nonlocal listing
            page: list[StoredObject] = []
            try:
                async for stored in listing:
                    if stored.key.startswith(RESERVED_PREFIX):
                        # Two objects for each image: not even listed.
                        listing = self._store.list(self._prefix, start_after=_AFTER_RESERVED)
                        return page or await following()
                    page.append(stored)
                    if len(page) == _PAGE:
                        break
            except ServiceError:
                listing = self._store.list(self._prefix, start_after=after)
                raise
            return page

        while page := await self._outages.outlast(following):
            after = page[-1].key
            yield page

    def _may_be_image(self, key: str) -> bool:
        """Whether the object is looked at: as in folders, nothing hidden, and nothing with another kind's suffix."""
        if any(part.startswith(".") for part in key[len(self._prefix) :].split("/")) or key.endswith("/"):
            return False
        return os.path.splitext(key)[1].lower() in {"", *self._suffixes}

    async def _work(self, found: asyncio.Queue[StoredObject | None], scratch: Path) -> None:
        while (stored := await found.get()) is not None:
            await self._settle(stored, scratch)

    async def _settle(self, stored: StoredObject, scratch: Path) -> None:
        """Index the object, or record why it cannot be; only a service's fault stops the run."""
        try:
            await self._outages.outlast(partial(self._adopt, stored, scratch))
        except ObjectMissing:
            log.info("%s is gone since it was listed", stored.key)
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
        check_key(stored.key)
        if stored.size > MAX_BYTES:
            raise ImageRefused(Reason.TOO_LARGE, f"the object has {stored.size} bytes, and may have {MAX_BYTES}")
        found = await self._store.download(stored.key, scratch)
        claimed = _claimed_digest(found)
        derived = claimed is not None and self._derivatives and await self._has_derivatives(claimed)
        examined = await self._decoder.run(examine, scratch, derivatives=self._derivatives and not derived)
        if derived and examined.sha256 != claimed:
            derived = False
            examined = await self._decoder.run(examine, scratch)
        columns = examined.columns() | ({"derivatives": True} if derived else {})
        await ingest(
            self._database,
            self._store,
            self._collection,
            NewImage(key=found.key, origin="adopted", **columns),
            scratch,
            thumbnail=examined.thumbnail,
            preview=examined.preview,
            # Recent images come first in lists, and these are as old as their objects.
            created_at=min(found.modified, datetime.now(UTC)),
            recorded=partial(self._record, found, examined.sha256),
        )
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
            stat=_stat(found),
            sha256=sha256,
            image_id=image_id,
            now=datetime.now(UTC),
        )
        if self._reclaim and _claimed_digest(found) == sha256:
            await adopting.reclaim(conn, self._collection, self._source, found.key, sha256)

    async def _reclaim_known(self, stored: StoredObject) -> None:
        """Make an object that was adopted before the collection's own again, where it carries our mark."""
        try:
            sha256 = _claimed_digest(await self._store.head(stored.key))
        except ObjectMissing:
            return
        if sha256:
            await self._database.run(
                partial(
                    adopting.reclaim,
                    collection=self._collection,
                    source=self._source,
                    key=stored.key,
                    sha256=sha256,
                )
            )

    async def _reject(self, stored: StoredObject, refusal: ImageRefused) -> None:
        async def record(conn: Connection) -> None:
            await files.record(
                conn,
                self._collection,
                self._source,
                stored.key,
                stat=_stat(stored),
                sha256=None,
                image_id=None,
                now=datetime.now(UTC),
                refusal=refusal,
            )

        await self._database.run(record)
        self._progress.failed(stored.key, refusal)


def _claimed_digest(stored: StoredObject) -> bytes | None:
    """Return the SHA-256 that was put with the object, as we do with each of ours; None where there is none."""
    try:
        return bytes.fromhex(stored.sha256 or "") or None
    except ValueError:
        return None


def _stat(stored: StoredObject) -> tuple[int, int, int]:
    """Return the object's size and what tells its versions apart, in the place of a file's times.

    The time of modification is not among it: S3 tells it in seconds for an object, in milliseconds in a listing.
    """
    mark = int.from_bytes(hashlib.sha256(stored.etag.encode()).digest()[:8], signed=True)
    return stored.size, 0, mark


def _settled(stored: StoredObject, known: KnownObject) -> bool:
    """Whether the object is indexed as it is: by us, as what a sync brought, or refused and not changed since."""
    if known.origin not in {None, "adopted"}:
        return True
    size, _, mark = _stat(stored)
    return (known.size, known.mark) == (size, mark)
