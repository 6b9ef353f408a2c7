"""Upload of one image: its objects, then its row. ``shared.object_deletion`` describes what a crash leaves behind."""

import asyncio
import hashlib
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import TypedDict, Unpack
from uuid import UUID

from shared.batch_queue import BatchQueue
from shared.db.pool import Connection, Database
from shared.errors import DatabaseError, ImageRefused, ObjectExists, Reason
from shared.models import Collection, NewImage
from shared.object_keys import preview_key, thumbnail_key
from shared.sql import files, images, pending_objects
from shared.sql.files import FileRecord, FileTimes
from shared.sql.pending_objects import ExistingObject, UploadIntent
from shared.stores.base import CACHE_IMAGE, CACHE_IMMUTABLE, ObjectStore, object_sha256

CLAIM_POLL = 0.1  # seconds between attempts to upload to a key whose object is being deleted

BeforeCommit = Callable[[Connection, int], Awaitable[None]]


class DeletedMeanwhile(Exception):
    """The content was deleted through the API while it was being uploaded."""


_Outcome = int | None | DeletedMeanwhile


class IngestOptions(TypedDict, total=False):
    """Options of ``Ingester.add``.

    With ``replaces``, the object under the key belongs to the file of ``source`` and is overwritten. Without it, an
    object with the same bytes is accepted and any other is refused (KEY_TAKEN).
    With ``stat``, the image is recorded as the outcome of the source's file at its key, unless the source has a
    tombstone of the content: then ``add`` raises DeletedMeanwhile.
    ``created_at`` orders recent images (default: now). ``before_commit`` runs in the transaction that writes the row,
    and an exception from it rolls that back.
    """

    thumbnail: bytes | None
    preview: bytes | None
    replaces: bool
    source: int
    stat: FileTimes
    created_at: datetime
    before_commit: BeforeCommit | None


@dataclass(frozen=True)
class _Stored:
    """An image whose objects are stored and whose row is to be written."""

    image: NewImage
    intent: UploadIntent
    created_at: datetime
    stat: FileTimes | None
    before_commit: BeforeCommit | None


class Ingester:
    """Adds images to one collection. Concurrent calls of ``add`` share transactions."""

    def __init__(self, database: Database, store: ObjectStore, collection: Collection) -> None:
        self._database = database
        self._store = store
        self._collection = collection
        self._intents = BatchQueue(self._record_intents)
        self._rows = BatchQueue(self._write_rows)

    async def add(self, image: NewImage, body: bytes | Path, **options: Unpack[IngestOptions]) -> int:
        """Store the image with its derivatives, write its row, and return its id.

        Of an ``adopted`` image only the derivatives are stored, because the bucket has the image already. Without
        thumbnail and preview, the image shares those of another image with the same content, if there is one.

        Raises ImageRefused if the body changed or the key cannot be used, DeletedMeanwhile, and ServiceError if the
        store or the database is unavailable. Repeating the call is safe.
        """
        image_id = None
        while image_id is None:
            intent = UploadIntent(
                image.key,
                image.sha256,
                image.derivatives,
                adopted=image.origin == "adopted",
                source=options.get("source"),
                replaces=options.get("replaces", False),
            )
            image_id = await self._add_once(image, body, intent, options)
        return image_id

    async def begin(self, intent: UploadIntent) -> ExistingObject:
        """Record the intent; wait first while another process is deleting the object under one of its keys."""
        while (existing := await self._intents.run(intent)) is None:
            await asyncio.sleep(CLAIM_POLL)
        return existing

    async def _add_once(
        self, image: NewImage, body: bytes | Path, intent: UploadIntent, options: IngestOptions
    ) -> int | None:
        """Return None if the upload missed its deadline and has to be repeated."""
        thumbnail, preview = options.get("thumbnail"), options.get("preview")
        existing = await self.begin(intent)
        if image.derivatives and thumbnail is None and not (existing.derivatives or intent.adopted):
            image = replace(image, derivatives=False)
        try:
            if not existing.derivatives:
                await put_derivatives(self._store, image.sha256, thumbnail, preview)
            if not intent.adopted:
                await _put_image(self._store, image, body, existing, overwrite=intent.replaces)
            created_at = options.get("created_at") or datetime.now(UTC)
            stored = _Stored(image, intent, created_at, options.get("stat"), options.get("before_commit"))
            outcome = await self._rows.run(stored)
            if isinstance(outcome, DeletedMeanwhile):
                raise outcome
            return outcome
        except Exception as exc:
            stored_image = not isinstance(exc, ImageRefused)
            with suppress(DatabaseError):  # the intent becomes due after its deadline
                await self._database.run(pending_objects.abandon_upload, self._collection, intent, stored=stored_image)
            raise

    async def _record_intents(self, intents: Sequence[UploadIntent]) -> list[ExistingObject | None]:
        return await self._database.run(pending_objects.record_intents, self._collection, intents)

    async def _write_rows(self, batch: Sequence[_Stored]) -> list[_Outcome]:
        return await self._database.run(_write_rows, self._collection, batch)


async def _write_rows(conn: Connection, collection: Collection, batch: Sequence[_Stored]) -> list[_Outcome]:
    """Write the images' rows and return their ids; None for an upload that missed its deadline."""
    deleted = await _find_deleted(conn, batch)
    intents = [stored.intent for stored in batch if stored.intent.upload not in deleted]
    completed = await pending_objects.complete_uploads(conn, collection, intents)
    outcomes: dict[UUID, _Outcome] = {upload: DeletedMeanwhile() for upload in deleted}
    written = [stored for stored in batch if stored.intent.upload in completed]
    ids = await images.add_many(conn, collection, [(stored.image, stored.created_at) for stored in written])
    records = []
    for stored, image_id in zip(written, ids, strict=True):
        outcomes[stored.intent.upload] = image_id
        if stored.before_commit:
            await stored.before_commit(conn, image_id)
        if stored.stat and stored.intent.source is not None:
            record = FileRecord(stored.intent.source, stored.image.key, stored.stat, stored.image.sha256, image_id)
            records.append(record)
    if records:
        await files.record_many(conn, collection, records)
    return [outcomes.get(stored.intent.upload) for stored in batch]


async def _find_deleted(conn: Connection, batch: Sequence[_Stored]) -> set[UUID]:
    """Return the uploads of files whose source has a tombstone of their content."""
    deleted = set[UUID]()
    intents = [stored.intent for stored in batch if stored.stat]
    for source in {intent.source for intent in intents if intent.source is not None}:
        tombstones = await files.tombstones(conn, source, [intent.sha256 for intent in intents])
        deleted |= {each.upload for each in intents if each.source == source and each.sha256 in tombstones}
    return deleted


async def put_derivatives(store: ObjectStore, sha256: bytes, thumbnail: bytes | None, preview: bytes | None) -> None:
    """Store thumbnail and preview of the image with this content, if they are given."""
    for key, data in ((thumbnail_key(sha256), thumbnail), (preview_key(sha256), preview)):
        if data is not None:
            digest = hashlib.sha256(data).hexdigest()
            await store.put(key, data, content_type="image/webp", cache_control=CACHE_IMMUTABLE, sha256=digest)


async def _put_image(
    store: ObjectStore, image: NewImage, body: bytes | Path, existing: ExistingObject, *, overwrite: bool
) -> None:
    """Store the image under its key; raise ImageRefused if an object that is not ours has it."""
    try:
        await _put(store, image, body, overwrite=overwrite)
    except ObjectExists as exc:
        found = await store.head(image.key)
        digest = image.sha256.hex()
        if found.sha256 == digest:  # another folder has the same photo, or an earlier run was interrupted
            return
        leftovers = {content.hex() for content in existing.leftovers}
        # Without leftovers, an object of another size cannot be ours, and its hash is not worth a download.
        actual = await object_sha256(store, found) if leftovers or found.size == image.size else None
        if actual in leftovers:
            await _put(store, image, body, overwrite=True)
        elif actual != digest:
            raise ImageRefused(
                Reason.KEY_TAKEN, f"the bucket has another image under {image.key!r}: rename this one", final=False
            ) from exc


async def _put(store: ObjectStore, image: NewImage, body: bytes | Path, *, overwrite: bool) -> None:
    await store.put(
        image.key,
        body,
        content_type=image.content_type,
        cache_control=CACHE_IMAGE,
        sha256=image.sha256.hex(),
        overwrite=overwrite,
    )
