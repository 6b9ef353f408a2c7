"""Add an image that came through the API: choose its key, store it, and embed it at once if the model is local."""

import asyncio
import logging
import re
import unicodedata
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path, PurePosixPath
from uuid import uuid4

from server.context import AppContext
from shared import object_deletion
from shared.db.pool import Connection
from shared.embedders.base import ImageInput, Vector
from shared.errors import DatabaseError, ImageBrowserError, ImageRefused, Reason, StoreError
from shared.images import Examined
from shared.ingest import Ingester
from shared.models import Collection, Image, Job, NewImage
from shared.sql import contents, images, queue
from shared.stores.base import RESERVED_PREFIX, check_key

log = logging.getLogger(__name__)

# Longest wait for the vector before the response. A local model takes a second, unless it has to be loaded first.
EMBED_TIMEOUT = 20.0  # seconds
_LEASE = timedelta(seconds=60)
# Bytes of the file name and of its extension that a derived key keeps. File systems allow 255 per name.
_MAX_STEM, _MAX_SUFFIX = 150, 20
_CONTROL_CHARACTERS = re.compile(r"[\x00-\x1f\x7f]")


def check_image_key(key: str) -> None:
    """Raise ImageRefused for a key that some store cannot hold, or that is reserved."""
    check_key(key)
    parts = key.split("/")
    if "" in parts or _CONTROL_CHARACTERS.search(key):
        detail = f"the key {key!r} has an empty path segment or a control character, which some stores cannot hold"
        raise ImageRefused(Reason.KEY_INVALID, detail)
    if f"{parts[0].casefold()}/" == RESERVED_PREFIX:
        raise ImageRefused(Reason.KEY_INVALID, f"the key {key!r} is under {RESERVED_PREFIX}, which is reserved")


def keys_for(filename: str, sha256: bytes) -> list[str]:
    """Return the key derived from *filename*, and the key to use if another image has that one."""
    name = _CONTROL_CHARACTERS.sub("", unicodedata.normalize("NFC", filename))
    name = name.replace("\\", "/").rpartition("/")[2].strip()
    if not name or name in {".", ".."}:
        raise ImageRefused(Reason.KEY_INVALID, "key is missing: give `key`, or the file's name as `filename`")
    path = PurePosixPath(name)
    stem, suffix = _cut(path.stem, _MAX_STEM), _cut(path.suffix, _MAX_SUFFIX)
    keys = [f"{stem}{suffix}", f"{stem}-{sha256.hex()[:12]}{suffix}"]
    check_image_key(keys[0])
    return keys


def _cut(text: str, max_bytes: int) -> str:
    return text.encode()[:max_bytes].decode(errors="ignore")


class _DuplicateUpload(Exception):
    """A concurrent request has stored the same content first."""


@dataclass(frozen=True)
class AddedImage:
    """An image that a request has added, or that holds the same content already."""

    bucket: str
    image: Image
    is_new: bool


async def add_image(
    collection: Collection, context: AppContext, path: Path, examined: Examined, keys: Sequence[str]
) -> AddedImage:
    """Store an image under the first free of *keys*, and embed it at once if the model is local.

    If the collection has the same content already, return that image. Raises ImageRefused if no key is free.
    """
    created_at = datetime.now(UTC)
    image = None
    while image is None:  # a concurrent request may add or delete the same content
        image_id = await context.database.run(contents.find_image, collection, examined.sha256)
        if image_id is None:
            with suppress(_DuplicateUpload):
                image_id = await _ingest(context, collection, path, examined, keys, created_at)
            await _delete_pending_objects(context, collection)
        if image_id is not None:
            image = await context.database.run(images.get, collection, image_id)
    is_new = image.created_at == created_at
    if image.status == "pending":
        await _embed(context, collection, image, path)
        embedded = await context.database.run(images.get, collection, image.id)
        image = embedded or image  # it may have been deleted meanwhile
    return AddedImage(collection.bucket, image, is_new)


async def _ingest(
    context: AppContext,
    collection: Collection,
    path: Path,
    examined: Examined,
    keys: Sequence[str],
    created_at: datetime,
) -> int:
    """Return the id of the image stored under the first free of *keys*."""

    async def check_duplicate(conn: Connection, image_id: int) -> None:
        await contents.lock(conn, collection, examined.sha256)
        if await contents.find_image(conn, collection, examined.sha256, besides=image_id) is not None:
            raise _DuplicateUpload

    ingester = Ingester(context.database, context.stores.get(collection.bucket), collection)
    for key in keys:
        if await context.database.run(contents.is_key_taken, collection, key):
            continue
        try:
            return await ingester.add(
                NewImage(key=key, origin="api", **examined.columns()),
                path,
                thumbnail=examined.thumbnail,
                preview=examined.preview,
                created_at=created_at,
                before_commit=check_duplicate,
            )
        except ImageRefused as refusal:
            if refusal.reason is not Reason.KEY_TAKEN:
                raise
    raise ImageRefused(Reason.KEY_TAKEN, f"the key {keys[0]!r} belongs to another image: give another key")


async def _delete_pending_objects(context: AppContext, collection: Collection) -> None:
    """Delete objects that interrupted uploads and deletions left; after a store error the next upload retries."""
    with suppress(StoreError):
        await object_deletion.delete_pending_objects(
            context.database, context.stores.get(collection.bucket), collection
        )


async def _embed(context: AppContext, collection: Collection, image: Image, path: Path) -> None:
    """Embed the image if the collection's model is local. Otherwise, or if it fails, the image stays in the queue."""
    embedder = context.embedders.find(collection)
    if embedder is None or not embedder.local:
        return
    job = await context.database.run(queue.claim_image, collection, image.id, lease=uuid4(), duration=_LEASE)
    if job is None:  # it got the vector of equal content, or a syncer has leased it
        return
    try:
        data = await asyncio.to_thread(path.read_bytes)
        async with asyncio.timeout(EMBED_TIMEOUT):
            [outcome] = await embedder.embed_images([ImageInput(data=data)])
        await context.database.run(_finish, collection, job, outcome)
    except (ImageBrowserError, TimeoutError) as exc:
        log.warning("image %d of %s is left to a syncer: %s", image.id, collection.bucket, exc or "timeout")
        with suppress(DatabaseError):  # then the lease expires
            await context.database.run(queue.release, collection, [job.lease])


async def _finish(conn: Connection, collection: Collection, job: Job, outcome: Vector | ImageRefused) -> None:
    if isinstance(outcome, ImageRefused):
        retry_in = None if outcome.final else timedelta()
        await queue.refuse(conn, collection, job, outcome, retry_in=retry_in)
    else:
        await queue.complete(conn, collection, job, outcome.tolist())
