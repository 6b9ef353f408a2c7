"""Puts an image into a bucket and makes its row, in an order that a process may be killed in anywhere."""

import asyncio
import hashlib
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from functools import partial
from pathlib import Path

from shared.db.gathering import Gathering
from shared.db.pool import Connection, Database
from shared.errors import DatabaseError, ImageRefused, ObjectExists, Reason
from shared.models import Collection, NewImage
from shared.object_keys import preview_key, thumbnail_key
from shared.sql import files, images, pending_objects
from shared.sql.files import Seen
from shared.sql.pending_objects import ExistingObject, UploadIntent
from shared.stores.base import CACHE_IMAGE, CACHE_IMMUTABLE, ObjectStore, object_sha256

# For so long an image waits for others to share a transaction with, and for so many, as times of those that travel.
_WINDOW = 0.25  # seconds
_TOGETHER = 3

Recorder = Callable[[Connection, int], Awaitable[None]]


@dataclass(frozen=True, eq=False)
class _Arrival:
    """An image that lies in the bucket, and what is to be written with its row."""

    image: NewImage
    note: UploadIntent
    created_at: datetime
    stat: tuple[int, int, int] | None
    recorded: Recorder | None


class Ingestion:
    """Brings images into one bucket, *concurrency* at once, each committed as soon as it lies there.

    What several images have to note, and to commit, shares a transaction where they come within a quarter of a second.
    *source* is the folder that they come from; when its next run begins, what this one left unfinished is cleaned up.
    """

    def __init__(
        self,
        database: Database,
        store: ObjectStore,
        collection: Collection,
        *,
        source: int | None = None,
        concurrency: int = 1,
    ) -> None:
        self._database = database
        self._store = store
        self._collection = collection
        self._source = source
        self._concurrency = concurrency
        self._places = asyncio.Semaphore(concurrency)
        self._in_hand = 0
        self._notes = Gathering(database, self._announce, enough=self._enough, window=_WINDOW)
        self._rows = Gathering(database, self._commit, enough=self._enough, window=_WINDOW)

    async def bring(
        self,
        image: NewImage,
        body: bytes | Path,
        *,
        thumbnail: bytes | None,
        preview: bytes | None,
        replaces: bool = False,
        created_at: datetime | None = None,
        stat: tuple[int, int, int] | None = None,
        recorded: Recorder | None = None,
    ) -> int:
        """Store the image with its derivatives, make its row, and return its id.

        An image of origin ``adopted`` lies under its key already, as somebody else's: there, nothing is stored. Without
        *thumbnail* and *preview* the bucket must hold those, too, if it is to have any.
        Without *thumbnail* and *preview*, those of another image with the same content are used if there are any.
        With *replaces* the object under the image's key is ours and is written over. Without it, an object that lies
        there is accepted if it holds the same bytes, and refused (KEY_TAKEN) if it is somebody else's. Where a row says
        that it holds them, nothing is sent.
        *created_at* is its place among recent images, now by default. *recorded* is called in the transaction that
        makes the row; what it raises undoes that. With *stat* (size, mtime_ns, ctime_ns) the image is remembered as
        that of the source's file of its name.

        Raises ImageRefused when the body changed or the key cannot be used, and ServiceError when the store or the
        database cannot be reached. It is safe to repeat.
        """
        adopted = image.origin == "adopted"
        with self._counted():
            image_id = None
            while image_id is None:
                note = UploadIntent(image.key, image.sha256, derivatives=image.derivatives, adopted=adopted)
                found = await self._notes.run(note)
                if image.derivatives and thumbnail is None and not (found.derived or adopted):
                    image = replace(image, derivatives=False)
                try:
                    async with self._places:
                        if not found.derived:
                            await _put_derivatives(self._store, image.sha256, thumbnail, preview)
                        if not adopted and not found.indexed:
                            ours = {content.hex() for content in found.leftovers}
                            await _put(self._store, image, body, overwrite=replaces, ours=ours)
                    arrival = _Arrival(image, note, created_at or datetime.now(UTC), stat, recorded)
                    image_id = await self._rows.run(arrival)
                except Exception as exc:
                    stored = not isinstance(exc, ImageRefused)
                    with suppress(DatabaseError):  # then the note becomes due by itself
                        await self._database.run(
                            pending_objects.abandon_upload, collection=self._collection, note=note, stored=stored
                        )
                    raise
        return image_id

    @contextmanager
    def _counted(self) -> Iterator[None]:
        self._in_hand += 1
        try:
            yield
        finally:
            self._in_hand -= 1

    def _enough(self) -> int:
        """Return for how many images a transaction is begun at once: more than are in hand will not come."""
        return min(self._in_hand, _TOGETHER * self._concurrency)

    async def _announce(self, conn: Connection, notes: Sequence[UploadIntent]) -> list[ExistingObject]:
        return await pending_objects.record_intents(conn, self._collection, notes, source=self._source)

    async def _commit(self, conn: Connection, arrivals: Sequence[_Arrival]) -> list[int | None]:
        """Make the rows; None stands for one that took too long: somebody may have deleted what was stored."""
        in_time = await pending_objects.complete_uploads(conn, self._collection, [each.note for each in arrivals])
        safe = [each for each, was_in_time in zip(arrivals, in_time, strict=True) if was_in_time]
        images_and_times = [(each.image, each.created_at) for each in safe]
        ids = dict(zip(safe, await images.add_many(conn, self._collection, images_and_times), strict=True))
        for each, image_id in ids.items():
            if each.recorded:
                await each.recorded(conn, image_id)
        files_seen = [
            Seen(each.image.key, each.stat, each.image.sha256, image_id) for each, image_id in ids.items() if each.stat
        ]
        if self._source is not None and files_seen:
            await files.record_many(conn, self._collection, self._source, files_seen, now=datetime.now(UTC))
        return [ids.get(each) for each in arrivals]


async def ingest(
    database: Database,
    store: ObjectStore,
    collection: Collection,
    image: NewImage,
    body: bytes | Path,
    *,
    thumbnail: bytes | None,
    preview: bytes | None,
    replaces: bool = False,
    source: int | None = None,
    created_at: datetime | None = None,
    recorded: Recorder | None = None,
) -> int:
    """Bring one image, as ``Ingestion.bring`` does."""
    return await Ingestion(database, store, collection, source=source).bring(
        image,
        body,
        thumbnail=thumbnail,
        preview=preview,
        replaces=replaces,
        created_at=created_at,
        recorded=recorded,
    )


async def _put_derivatives(store: ObjectStore, sha256: bytes, thumbnail: bytes | None, preview: bytes | None) -> None:
    for key, data in ((thumbnail_key(sha256), thumbnail), (preview_key(sha256), preview)):
        if data is not None:
            digest = hashlib.sha256(data).hexdigest()
            await store.put(key, data, content_type="image/webp", cache_control=CACHE_IMMUTABLE, sha256=digest)


async def _put(store: ObjectStore, image: NewImage, body: bytes | Path, *, overwrite: bool, ours: set[str]) -> None:
    """Store the image under its key, unless it lies there already; raise ImageRefused if somebody else's does.

    It does when a former run was killed between upload and row, or another folder brought the same photo.
    """
    put = partial(
        store.put,
        image.key,
        body,
        content_type=image.content_type,
        cache_control=CACHE_IMAGE,
        sha256=image.sha256.hex(),
    )
    try:
        await put(overwrite=overwrite)
    except ObjectExists as exc:
        found = await store.head(image.key)
        if found.sha256 == image.sha256.hex():
            return
        # Where nothing of ours was left, an object of another size can only be somebody else's.
        held = await object_sha256(store, found) if ours or found.size == image.size else None
        if held in ours:
            await put(overwrite=True)
        elif held != image.sha256.hex():
            raise ImageRefused(
                Reason.KEY_TAKEN, f"the bucket holds another image under {image.key!r}: rename this one", final=False
            ) from exc
