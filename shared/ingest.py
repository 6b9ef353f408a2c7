"""Puts an image into a bucket and makes its row, in an order that a process may be killed in anywhere."""

import contextlib
import hashlib
from collections.abc import Awaitable, Callable
from dataclasses import replace
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from uuid import UUID, uuid4

from shared.db.pool import Connection, Database
from shared.derivatives import preview_key, thumbnail_key
from shared.errors import DatabaseError, ImageRefused, ObjectExists, Reason
from shared.model import Collection, NewImage
from shared.sql import images, removal
from shared.stores import CACHE_IMAGE, CACHE_IMMUTABLE, ObjectStore, held_sha256

Recorder = Callable[[Connection, int], Awaitable[None]]


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
    """Store the image with its derivatives, make its row, and return its id.

    An image of origin ``adopted`` lies under its key already, as somebody else's: there, nothing is stored. Without
    *thumbnail* and *preview* the bucket must hold those, too, if it is to have any.
    Without *thumbnail* and *preview*, those of another image with the same content are used if there are any.
    With *replaces* the object under the image's key is ours and is written over. Without it, an object that lies there
    is accepted if it holds the same bytes, and refused (KEY_TAKEN) if it is somebody else's. Where a row says that it
    holds them, nothing is sent.
    *source* is the folder that the image comes from; when its next run begins, what this one left unfinished is
    cleaned up. *created_at* is its place among recent images, now by default. *recorded* is called in the transaction
    that makes the row.

    Raises ImageRefused when the body changed or the key cannot be used, and ServiceError when the store or the
    database cannot be reached. It is safe to repeat.
    """
    adopted = image.origin == "adopted"
    while True:
        upload = uuid4()
        note = partial(
            removal.announce,
            collection=collection,
            upload=upload,
            key=image.key,
            sha256=image.sha256,
            derivatives=image.derivatives,
            adopted=adopted,
            source=source,
        )
        found = await database.run(note)
        if image.derivatives and thumbnail is None and not (found.derived or adopted):
            image = replace(image, derivatives=False)
        try:
            if not found.derived:
                await _put_derivatives(store, image.sha256, thumbnail, preview)
            if not adopted and not found.indexed:
                await _put(store, image, body, overwrite=replaces, ours={content.hex() for content in found.leftovers})
            commit = partial(_commit, collection, image, upload, created_at or datetime.now(UTC), recorded)
            image_id = await database.run(commit)
        except Exception as exc:
            give_up = partial(
                removal.give_up,
                collection=collection,
                upload=upload,
                key=image.key,
                stored=not isinstance(exc, ImageRefused),
            )
            with contextlib.suppress(DatabaseError):  # then the note becomes due by itself
                await database.run(give_up)
            raise
        if image_id is not None:
            return image_id


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
        held = await held_sha256(store, found) if ours or found.size == image.size else None
        if held in ours:
            await put(overwrite=True)
        elif held != image.sha256.hex():
            raise ImageRefused(
                Reason.KEY_TAKEN, f"the bucket holds another image under {image.key!r}: rename this one", final=False
            ) from exc


async def _commit(
    collection: Collection,
    image: NewImage,
    upload: UUID,
    created_at: datetime,
    recorded: Recorder | None,
    conn: Connection,
) -> int | None:
    """Make the row; return None where somebody may have deleted what was stored, since it took too long."""
    in_time = await removal.arrived(
        conn,
        collection,
        upload,
        key=image.key,
        sha256=image.sha256,
        derivatives=image.derivatives,
        adopted=image.origin == "adopted",
    )
    if not in_time:
        return None
    image_id = await images.add(conn, collection, image, now=created_at)
    if recorded:
        await recorded(conn, image_id)
    return image_id
