"""Pictures to search for."""

import asyncio

from starlette.requests import Request
from starlette.responses import Response

from server import request_body
from server.context import AppContext, app_context
from server.request_body import QUERY_IMAGE
from server.schemas import requests
from server.schemas.errors import Problem
from server.schemas.openapi import Operation, Schema
from server.schemas.requests import CollectionQuery, ImageUrlBody
from server.schemas.responses import FastJSONResponse, QueryImageHandle
from server.search import image_queries
from shared.errors import ImageRefused
from shared.images import glance

_FILE: Schema = {"type": "string", "format": "binary"}
_BODY: dict[str, Schema] = {
    "image/*": _FILE,
    "multipart/form-data": {"type": "object", "properties": {"file": _FILE}, "required": ["file"]},
    "application/json": ImageUrlBody.model_json_schema(),
}


@Operation(query=CollectionQuery, body=_BODY, response=QueryImageHandle, errors=(400, 404, 408, 413, 429, 503))
async def create_query_image(request: Request) -> Response:
    """POST /api/query-images: prepare a picture to search for, and return its handle.

    The body is the file, a form with the file, or JSON with its URL. The server stores the vector for some days, and
    never the picture. The same picture gets the same handle.
    """
    query = requests.parse(CollectionQuery, request)
    app = app_context(request)
    collection = await app.collection(query.bucket)
    if app.pictures_at_once.locked():
        raise Problem(503, "too many pictures are being processed: try again", headers={"Retry-After": "1"})
    async with app.pictures_at_once:
        name, url, content = await _picture(app, request)
        try:
            seen = await app.decoder.run(glance, content)
        except ImageRefused as exc:
            raise Problem(400, f"{name} cannot be used: {exc}") from exc
        stored = await image_queries.of_content(app, collection, content, name=name, address=url)
    return FastJSONResponse(
        QueryImageHandle(
            query_image=stored.handle,
            width=seen.width,
            height=seen.height,
            thumbnail=seen.thumbnail,
            expires_at=stored.expires_at.isoformat(),
        )
    )


async def _picture(app: AppContext, request: Request) -> tuple[str, str, bytes]:
    """Return the picture's name in error messages, its URL or an empty string, and its content."""
    if request_body.media_type(request) == "application/json":
        url = (await requests.parse_body(ImageUrlBody, request)).url
        return "url", url, await image_queries.fetched(app, url, name="url")
    async with request_body.received_file(request, QUERY_IMAGE) as file:
        return "the picture", "", await asyncio.to_thread(file.path.read_bytes)
