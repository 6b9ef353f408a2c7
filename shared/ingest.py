"""Upload of one image: its objects, then its row. ``shared.object_deletion`` describes what a crash leaves behind."""

import asyncio
import hashlib
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

from shared.db.pool import Connection, Database
from shared.errors import DatabaseError, ImageRefused, ObjectExists, Reason
from shared.models import Collection, NewImage
from shared.object_keys import preview_key, thumbnail_key
from shared.sql import images, pending_objects
from shared.sql.pending_objects import ExistingObject, UploadIntent
from shared.stores.base import CACHE_IMAGE, CACHE_IMMUTABLE, ObjectStore, object_sha256

CLAIM_POLL = 0.1  # seconds between attempts to upload to a key whose object is being deleted

BeforeCommit = Callable[[Connection, int], Awaitable[None]]


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
    before_commit: BeforeCommit | None = None,
) -> int:
    """Store the image with its derivatives, write its row, and return its id.

    Of an ``adopted`` image only the derivatives are stored, because the bucket has the image already. Without
    *thumbnail* and *preview*, the image shares those of another image with the same content, if there is one.
    With *replaces*, the object under the key belongs to the file of *source* and is overwritten. Without it, an object
    with the same bytes is accepted and any other is refused (KEY_TAKEN).
    *created_at* orders recent images (default: now). *before_commit* runs in the transaction that writes the row, and
    an exception from it rolls that back.

    Raises ImageRefused if the body changed or the key cannot be used, and ServiceError if the store or the database
    is unavailable. Repeating the call is safe.
    """
    image_id = None
    while image_id is None:
        intent = UploadIntent(image.key, image.sha256, image.derivatives, adopted=image.origin == "adopted")
        existing = await begin_upload(database, collection, intent, source=source, replaces=replaces)
        if image.derivatives and thumbnail is None and not (existing.derivatives or intent.adopted):
            image = replace(image, derivatives=False)
        try:
            if not existing.derivatives:
                await _put_derivatives(store, image.sha256, thumbnail, preview)
            if not intent.adopted:
                await _put_image(store, image, body, existing, overwrite=replaces)
            image_id = await database.run(
                _write_row,
                collection,
                image,
                intent,
                created_at=created_at or datetime.now(UTC),
                before_commit=before_commit,
            )
        except Exception as exc:
            stored = not isinstance(exc, ImageRefused)
            with suppress(DatabaseError):  # the intent becomes due after its deadline
                await database.run(pending_objects.abandon_upload, collection, intent, stored=stored)
            raise
    return image_id


async def begin_upload(
    database: Database, collection: Collection, intent: UploadIntent, *, source: int | None, replaces: bool
) -> ExistingObject:
    """Record the intent; wait first while another process is deleting the object under one of its keys."""
    while True:
        existing = await database.run(
            pending_objects.record_intent, collection, intent, source=source, replaces=replaces
        )
        if existing:
            return existing
        await asyncio.sleep(CLAIM_POLL)


async def _write_row(
    conn: Connection,
    collection: Collection,
    image: NewImage,
    intent: UploadIntent,
    *,
    created_at: datetime,
    before_commit: BeforeCommit | None,
) -> int | None:
    """Write the image's row and return its id; None if the upload missed its deadline and has to be repeated."""
    if not await pending_objects.complete_upload(conn, collection, intent):
        return None
    image_id = await images.add(conn, collection, image, now=created_at)
    if before_commit:
        await before_commit(conn, image_id)
    return image_id


async def _put_derivatives(store: ObjectStore, sha256: bytes, thumbnail: bytes | None, preview: bytes | None) -> None:
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
