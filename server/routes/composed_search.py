"""Composed queries, and the pictures that are searched for."""

import asyncio
from collections.abc import AsyncGenerator

from starlette.datastructures import UploadFile
from starlette.formparsers import MultiPartException, MultiPartParser
from starlette.requests import Request
from starlette.responses import Response
from typing_extensions import TypedDict

from server.context import AppContext, app_context
from server.schemas import requests
from server.schemas.errors import Problem
from server.schemas.json_response import Json
from server.schemas.openapi import Schema, operation
from server.schemas.responses import Hits
from server.search import image_queries, query_builder, service
from shared.errors import ImageRefused
from shared.images import glance
from shared.sql.filters import EVERYTHING

MAX_BYTES = 20 << 20  # of a picture
FORM_BYTES = 64 << 10  # that a form may add to its file
UPLOAD_TIMEOUT = 60.0  # seconds

_FILE: Schema = {"type": "string", "format": "binary"}
_UPLOADS: dict[str, Schema] = {
    "image/*": _FILE,
    "multipart/form-data": {"type": "object", "properties": {"file": _FILE}, "required": ["file"]},
    "application/json": requests.QueryImageAddress.model_json_schema(),
}


class QueryImageAnswer(TypedDict):
    """A picture that can be searched for. ``query_image`` is its handle, which serves until ``expires_at`` (ISO 8601);
    width and height are in pixels; ``thumbnail`` is a small picture as a data: address, which is kept nowhere.
    """

    query_image: str
    width: int
    height: int
    thumbnail: str
    expires_at: str


@operation(asks=requests.Compose, answers=Hits, errors=(400, 404, 409, 413, 415, 429, 503))
async def by_terms(request: Request, asked: requests.Compose) -> Response:
    """POST /api/search: the images nearest to a sum of texts and images, nearest first.

    Each term counts by its weight, and against when that is negative: "this photo + at night - people". Images that
    are terms are left out.
    """
    app = app_context(request)
    collection = await app.collection(asked.bucket)
    query = await query_builder.query_of(app, collection, [term.term() for term in asked.terms])
    filters = asked.filters.filters() if asked.filters else EVERYTHING
    page = await service.ranked(
        app, collection, query, filters, strict=asked.strict, limit=asked.limit, cursor=asked.cursor
    )
    return Json(page.as_json())


@operation(
    asks=requests.InCollection,
    answers=QueryImageAnswer,
    errors=(400, 404, 408, 413, 429, 503),
    uploads=_UPLOADS,
)
async def add_query_image(request: Request, asked: requests.InCollection) -> Response:
    """POST /api/query-images: make a picture one that can be searched for.

    The body is the file, a form with the file in it, or JSON with its address. What is kept is its vector, for some
    days; the picture itself is not. The same picture has the same handle.
    """
    app = app_context(request)
    collection = await app.collection(asked.bucket)
    if app.pictures_at_once.locked():
        raise Problem(503, "too many pictures are being looked at: try again in a moment", headers={"Retry-After": "1"})
    async with app.pictures_at_once:
        name, address, content = await _picture(app, request)
        try:
            seen = await app.decoder.run(glance, content)
        except ImageRefused as exc:
            raise Problem(400, f"{name} cannot be used: {exc}") from exc
        kept = await image_queries.of_content(app, collection, content, name=name, address=address)
    return Json(
        QueryImageAnswer(
            query_image=kept.handle,
            width=seen.width,
            height=seen.height,
            thumbnail=seen.thumbnail,
            expires_at=kept.expires_at.isoformat(),
        )
    )


async def _picture(app: AppContext, request: Request) -> tuple[str, str, bytes]:
    """Return what the request calls the picture, its address if it gives one, and its bytes."""
    media_type = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if media_type == "application/json":
        address = (await requests.read_body(requests.QueryImageAddress, request)).url
        return "url", address, await image_queries.fetched(app, address, name="url")
    try:
        async with asyncio.timeout(UPLOAD_TIMEOUT):
            if media_type == "multipart/form-data":
                return "the file", "", await _file_of_form(request)
            return "the body", "", b"".join([part async for part in _bounded(request, MAX_BYTES)])
    except TimeoutError as exc:
        raise Problem(408, f"the picture did not arrive within {UPLOAD_TIMEOUT:g} seconds") from exc


async def _file_of_form(request: Request) -> bytes:
    """Return the content of the only file in a form."""
    stream = _bounded(request, MAX_BYTES + FORM_BYTES)
    try:
        form = await MultiPartParser(request.headers, stream, max_files=1, max_fields=10).parse()
    except MultiPartException as exc:
        raise Problem(400, f"the form cannot be read: {exc.message}") from exc
    try:
        for value in form.values():
            if isinstance(value, UploadFile):
                return await value.read()
    finally:
        await form.close()
    raise Problem(400, "the form holds no file: send the picture as a part with a file name")


async def _bounded(request: Request, most: int) -> AsyncGenerator[bytes, None]:
    """Yield the body's parts; raise a 413 as soon as they are too many."""
    size = 0
    async for part in request.stream():
        size += len(part)
        if size > most:
            raise Problem(413, f"the picture is too large: send at most {MAX_BYTES:,} bytes")
        yield part
