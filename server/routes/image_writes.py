"""Images added and removed through the API. ``server.middleware.auth`` lets only those come here who have API_TOKEN."""

import asyncio
import logging
import re
import unicodedata
from collections.abc import Sequence
from contextlib import suppress
from datetime import timedelta
from pathlib import Path, PurePosixPath
from urllib.parse import quote
from uuid import uuid4

from pydantic import Field
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from server import uploads
from server.context import AppContext, app_context
from server.schemas import requests, responses
from server.schemas.openapi import operation
from server.schemas.responses import ImageAnswer
from server.search import service
from shared import object_deletion
from shared.db.pool import Connection
from shared.embedders.base import Embedder, ImageInput, Vector
from shared.errors import DatabaseError, ImageRefused, Reason, SettingsError, StoreError
from shared.images import Examined, examine
from shared.ingest import ingest
from shared.models import Collection, Image, Job, NewImage
from shared.sql import contents, images, queue
from shared.stores.base import RESERVED_PREFIX, check_key

log = logging.getLogger(__name__)

# For so long an answer waits for the vector: a model on this machine takes a second, unless it has to be loaded first.
EMBED_PATIENCE = 20.0  # seconds
_LEASE = timedelta(seconds=60)
_LONGEST_NAME = 150  # characters of a key that is made of a file's name
_CONTROL = re.compile(r"[\x00-\x1f\x7f]")
_FILE = {"type": "string", "format": "binary"}


class Named(requests.InCollection):
    """What an image is to be called that is added."""

    key: requests.Text | None = Field(None, max_length=1024, description="its key in the bucket")
    filename: requests.Text | None = Field(
        None, max_length=1000, description="the file's name, of which a free key is made where none is given"
    )


@operation(
    asks=Named,
    answers=ImageAnswer,
    status=(201, 200),
    errors=(400, 401, 403, 404, 409, 413, 415, 422, 429, 503),
    uploads={
        "multipart/form-data": {"type": "object", "properties": {"file": _FILE}, "required": ["file"]},
        "application/octet-stream": _FILE,
    },
    writes=True,
)
async def add(request: Request, asked: Named) -> Response:
    """POST /api/images: add an image, sent as the body or as the form's part `file`.

    It can be browsed at once. It can be found at once where the collection's model runs on the server, and else when
    a syncer has embedded it. Content that is there already is answered with its image and status 200. A `key` that
    another image has is refused; one made of a file's name then gets a part of the content's hash.
    """
    app = app_context(request)
    collection = await app.collection(asked.bucket, fresh=True)
    try:
        if asked.key is not None:
            _check_key(asked.key)
        async with uploads.received(request, most=app.settings.upload_max_bytes) as upload:
            examined = await app.decoder.run(examine, upload.path)
            keys = [asked.key] if asked.key else _keys(asked.filename or upload.name or "", examined.sha256)
            image, is_new = await _taken_in(app, collection, upload.path, examined, keys)
            if image.status == "pending":
                image = await _embedded(app, collection, image, upload.path)
    except ImageRefused as refusal:
        raise uploads.refused(refusal) from refusal
    return JSONResponse(
        responses.image(image, app.store(collection.bucket)),
        status_code=201 if is_new else 200,
        headers={"Location": f"/api/images/{image.id}?bucket={quote(collection.bucket, safe='')}"},
    )


@operation(asks=requests.InCollection, status=204, errors=(400, 401, 403, 404, 429, 503), writes=True)
async def remove(request: Request, asked: requests.InCollection) -> Response:
    """DELETE /api/images/{id}: remove an image, with its vector, its object and what was made from it.

    Its content does not come back with the next sync of a folder that holds it. An object that was adopted stays in
    the bucket, and is not adopted again.
    """
    app = app_context(request)
    collection = await app.collection(asked.bucket, fresh=True)
    image = await service.the_image(app, collection, requests.image_id(request.path_params["id"]))
    await object_deletion.delete_images(
        app.database, app.store(collection.bucket), collection, [image.id], tombstone=True
    )
    return Response(status_code=204)


def _check_key(key: str) -> None:
    """Raise ImageRefused for a key that is not for images, in some store or in all."""
    check_key(key)
    parts = key.split("/")
    if "" in parts or _CONTROL.search(key):
        detail = f"the key {key!r} has an empty part, or a control character, which not every store can keep"
        raise ImageRefused(Reason.KEY_INVALID, detail)
    if f"{parts[0].casefold()}/" == RESERVED_PREFIX:
        raise ImageRefused(Reason.KEY_INVALID, f"the key {key!r} lies under {RESERVED_PREFIX}, which is not for images")


def _keys(filename: str, sha256: bytes) -> list[str]:
    """Return the key that a file of this name gets, and the one that it gets where another image has that."""
    name = _CONTROL.sub("", unicodedata.normalize("NFC", filename)).replace("\\", "/").rpartition("/")[2].strip()
    path = PurePosixPath(name)
    if not name or name in {".", ".."}:
        raise ImageRefused(Reason.KEY_INVALID, "key is missing: give `key`, or the file's name as `filename`")
    stem, suffix = path.stem[:_LONGEST_NAME], path.suffix[:20]
    keys = [f"{stem}{suffix}", f"{stem}-{sha256.hex()[:12]}{suffix}"]
    _check_key(keys[0])
    return keys


class _AlreadyThere(Exception):
    """Another request took in the same content at the same time, and was faster."""


async def _taken_in(
    app: AppContext, collection: Collection, path: Path, examined: Examined, keys: Sequence[str]
) -> tuple[Image, bool]:
    """Return the image that holds the content, and whether it was made for it, under the first of *keys* that is free.

    Raises ImageRefused when none is free.
    """
    while True:
        known = await app.database.run(contents.holder, collection=collection, sha256=examined.sha256)
        if known is None:
            try:
                made, is_new = await _made(app, collection, path, examined, keys)
            except _AlreadyThere:
                await _tidy(app, collection)
                continue
            await _tidy(app, collection)
        else:
            made, is_new = known, False
        image = await app.database.run(images.get, collection=collection, image_id=made)
        if image is not None:
            return image, is_new


async def _made(
    app: AppContext, collection: Collection, path: Path, examined: Examined, keys: Sequence[str]
) -> tuple[int, bool]:
    is_new = False

    async def recorded(conn: Connection, image_id: int) -> None:
        nonlocal is_new
        await contents.lock(conn, collection, examined.sha256)
        if await contents.holder(conn, collection, examined.sha256, besides=image_id) is not None:
            raise _AlreadyThere
        is_new = await contents.is_new(conn, collection, image_id)

    for key in keys:
        if await app.database.run(contents.is_taken, collection=collection, key=key):
            continue
        try:
            image_id = await ingest(
                app.database,
                app.store(collection.bucket),
                collection,
                NewImage(key=key, origin="api", **examined.columns()),
                path,
                thumbnail=examined.thumbnail,
                preview=examined.preview,
                recorded=recorded,
            )
        except ImageRefused as refusal:
            if refusal.reason is not Reason.KEY_TAKEN:
                raise
        else:
            return image_id, is_new
    raise ImageRefused(Reason.KEY_TAKEN, f"the key {keys[0]!r} is that of another image: give another one")


async def _tidy(app: AppContext, collection: Collection) -> None:
    """Delete what writes that were cut off have left; what cannot be deleted now will be after another write."""
    with suppress(StoreError):
        await object_deletion.delete_pending_objects(app.database, app.store(collection.bucket), collection)


async def _embedded(app: AppContext, collection: Collection, image: Image, path: Path) -> Image:
    """Return the image with its vector where that costs nothing but a moment; whatever hinders it, it stays queued."""
    with suppress(SettingsError):
        embedder = app.embedder(collection)
        if embedder.local:
            data = await asyncio.to_thread(path.read_bytes)
            task = asyncio.create_task(_embed(app, collection, embedder, image, data))
            app.background.add(task)
            task.add_done_callback(app.background.discard)
            await asyncio.wait({task}, timeout=EMBED_PATIENCE)
    return await app.database.run(images.get, collection=collection, image_id=image.id) or image


async def _embed(app: AppContext, collection: Collection, embedder: Embedder, image: Image, data: bytes) -> None:
    job = None
    try:
        job = await app.database.run(
            queue.claim_image, collection=collection, image_id=image.id, lease=uuid4(), duration=_LEASE
        )
        if job is not None:  # else it has the vector of an image of equal content, or a syncer has it in hand
            [outcome] = await embedder.embed_images([ImageInput(data=data)])
            await app.database.run(_store, collection, job, outcome)
    except Exception as exc:
        log.warning("image %d of %s waits for a syncer: %s", image.id, collection.bucket, exc)
        if job is not None:
            with suppress(DatabaseError):  # then the lease ends by itself
                await app.database.run(queue.release, collection=collection, model=collection.model, leases=[job.lease])


async def _store(conn: Connection, collection: Collection, job: Job, outcome: Vector | ImageRefused) -> None:
    if isinstance(outcome, ImageRefused):
        retry_in = None if outcome.final else timedelta()
        await queue.refuse(conn, collection, collection.model, job, outcome, retry_in=retry_in)
    else:
        await queue.complete(conn, collection, collection.model, job, outcome.tolist())
