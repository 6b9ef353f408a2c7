"""Pictures to search for."""

import asyncio

from starlette.requests import Request
from starlette.responses import Response

from server import request_body
from server.context import AppContext, app_context
from server.problem import Problem
from server.request_body import QUERY_IMAGE
from server.schemas import openapi, requests
from server.schemas.openapi import Operation
from server.schemas.requests import CollectionQuery, ImageUrlBody
from server.schemas.responses import FastJSONResponse, QueryImageHandle
from shared.errors import ImageRefused
from shared.images import glance

_BODY = openapi.file_body("image/*") | {"application/json": ImageUrlBody.model_json_schema()}


@Operation(query=CollectionQuery, body=_BODY, response=QueryImageHandle, errors=(400, 404, 408, 413, 429, 503))
async def create_query_image(request: Request) -> Response:
    """POST /api/query-images: prepare a picture to search for, and return its handle.

    The body is the file, a form with the file, or JSON with its URL. The server stores the vector for some days, and
    never the picture. The same picture gets the same handle.
    """
    query = requests.parse(CollectionQuery, request)
    context = app_context(request)
    await context.collection(query.bucket)  # refuse an unknown bucket before the upload
    if request_body.media_type(request) == "application/json":
        url = (await requests.parse_body(ImageUrlBody, request)).url
        content = await context.query_images.fetch(url, name="url")
        async with context.query_images.slot():
            return await _add(context, query.bucket, content, name="url", url=url)
    async with request_body.received_file(request, QUERY_IMAGE) as file, context.query_images.slot():
        content = await asyncio.to_thread(file.path.read_bytes)
        return await _add(context, query.bucket, content, name="the picture")


async def _add(context: AppContext, bucket: str | None, content: bytes, *, name: str, url: str = "") -> Response:
    """Return the handle of the picture, which error messages call *name*."""
    try:
        seen = await context.decoder.run(glance, content)
    except ImageRefused as exc:
        raise Problem(400, f"{name} cannot be used: {exc}") from exc
    stored = await context.with_collection(bucket, context.query_images.add, content, name=name, url=url)
    return FastJSONResponse(
        QueryImageHandle(
            query_image=stored.handle,
            width=seen.width,
            height=seen.height,
            thumbnail=seen.thumbnail,
            expires_at=stored.expires_at.isoformat(),
        )
    )
