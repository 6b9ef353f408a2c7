"""The first phase: brings what is new or changed in a folder to the bucket, and makes its rows."""

import asyncio
import hashlib
import logging
from collections.abc import AsyncIterator, Callable
from collections.abc import Collection as Names
from datetime import UTC, datetime
from functools import partial
from itertools import islice
from pathlib import Path

from shared.db.pool import Connection, Database
from shared.decoding import Decoder
from shared.errors import ImageRefused, Reason, ServiceError
from shared.images import examine
from shared.ingest import ingest
from shared.model import Collection, KnownFile, NewImage
from shared.sql import collections, files
from shared.stores import ObjectStore
from syncer.outage import Outages
from syncer.plan import Action, Keep, Report, Upload, plan
from syncer.progress import Progress
from syncer.scan import LocalFile, Unlisted, scan

log = logging.getLogger(__name__)


class Uploader:
    """Uploads one folder to one collection, each image committed by itself: a run can be stopped anywhere."""

    def __init__(
        self,
        folder: Path,
        collection: Collection,
        *,
        source: str,
        suffixes: Names[str],
        database: Database,
        store: ObjectStore,
        decoder: Decoder,
        outages: Outages,
        progress: Progress,
        arrived: Callable[[], None],
        concurrency: int,
        derivatives: bool = True,
    ) -> None:
        """*source* is what the folder is known by; *arrived* is called when there is something to embed."""
        self._folder = folder
        self._collection = collection
        self._source_name = source
        self._source = 0
        self._suffixes = suffixes
        self._database = database
        self._store = store
        self._decoder = decoder
        self._outages = outages
        self._progress = progress
        self._arrived = arrived
        self._concurrency = concurrency
        self._derivatives = derivatives

    async def run(self) -> None:
        """Return when each file of the folder is in the bucket, or is reported with its reason.

        Raises ServiceError when the store or the database refuses, or stays away for too long.
        """
        self._source = await self._database.run(
            partial(collections.ensure_source, collection=self._collection, name=self._source_name)
        )
        actions: asyncio.Queue[Action | None] = asyncio.Queue(maxsize=4 * self._concurrency)
        async with asyncio.TaskGroup() as tasks:
            for _ in range(self._concurrency):
                tasks.create_task(self._work(actions))
            async for action in plan(self._listed(), self._known()):
                await actions.put(action)
            for _ in range(self._concurrency):
                await actions.put(None)

    async def _listed(self) -> AsyncIterator[LocalFile | Unlisted]:
        entries = scan(self._folder, self._suffixes)
        while batch := await asyncio.to_thread(lambda: list(islice(entries, 500))):
            for entry in batch:
                yield entry

    async def _known(self) -> AsyncIterator[KnownFile]:
        last = ""
        while rows := await self._database.run(
            partial(files.after, collection=self._collection, source=self._source, path=last, limit=2000)
        ):
            for row in rows:
                yield row
            last = rows[-1].path

    async def _work(self, actions: asyncio.Queue[Action | None]) -> None:
        while (action := await actions.get()) is not None:
            match action:
                case Upload(file, known):
                    await self._settle(file, known)
                case Keep(known):
                    self._known_before(known)
                case Report(unlisted):
                    self._progress.failed(unlisted.path, unlisted.refusal)
                case _:
                    # What is gone from the folder stays in the bucket.
                    pass

    def _known_before(self, known: KnownFile) -> None:
        if known.reason:
            self._progress.rejected_before()
        else:
            self._progress.kept()

    async def _settle(self, file: LocalFile, known: KnownFile | None) -> None:
        """Bring the file over, or record why it cannot be; only a service's fault stops the run."""
        try:
            await self._outages.outlast(partial(self._bring, file, known))
        except ServiceError:
            raise
        except ImageRefused as refusal:
            await self._reject(file, refusal)
        except Exception as exc:
            log.exception("%s could not be uploaded", file.path)
            await self._reject(file, ImageRefused(Reason.UNREADABLE, f"it could not be uploaded: {exc}", final=False))

    async def _bring(self, file: LocalFile, known: KnownFile | None) -> None:
        settled = known if known and (known.image_id is not None or known.removed) else None
        if settled and settled.sha256 == await asyncio.to_thread(_digest, file.absolute):
            await self._database.run(partial(self._touched, file=file))
            self._progress.kept()
            return
        examined = await self._decoder.run(examine, file.absolute, derivatives=self._derivatives)
        await ingest(
            self._database,
            self._store,
            self._collection,
            NewImage(key=file.path, origin="folder", **examined.columns()),
            file.absolute,
            thumbnail=examined.thumbnail,
            preview=examined.preview,
            replaces=known is not None and known.image_id is not None,
            source=self._source,
            recorded=partial(self._record, file, examined.sha256),
        )
        self._progress.uploaded()
        self._arrived()

    async def _record(self, file: LocalFile, sha256: bytes, conn: Connection, image_id: int) -> None:
        await files.record(
            conn,
            self._collection,
            self._source,
            file.path,
            stat=file.stat,
            sha256=sha256,
            image_id=image_id,
            now=datetime.now(UTC),
        )

    async def _touched(self, conn: Connection, file: LocalFile) -> None:
        await files.touch(conn, self._collection, self._source, file.path, stat=file.stat, now=datetime.now(UTC))

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
        self._progress.failed(file.path, refusal)


def _digest(path: Path) -> bytes:
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").digest()
    except OSError as exc:
        raise ImageRefused(Reason.UNREADABLE, f"it cannot be read: {exc.strerror}", final=False) from exc
