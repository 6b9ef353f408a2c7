"""Images: recent ones, single ones, neighbours."""

from starlette.requests import Request
from starlette.responses import Response

from server.context import app_context
from server.schemas import requests, responses
from server.schemas.json_response import Json
from server.schemas.openapi import operation
from server.schemas.responses import Hits, ImageDetails, Images
from server.search import service
from server.search.service import Page
from shared.sql import images


@operation(asks=requests.Recent, answers=Images)
async def recent(request: Request, asked: requests.Recent) -> Response:
    """GET /api/images: recent images, newest first.

    Images are here as soon as they are uploaded, embedded or not. With `ids` those images alone, in that order, as far
    as they are there: how a page learns what became of them.
    """
    app = app_context(request)
    collection = await app.collection(asked.bucket)
    if asked.ids:
        found = await app.database.read(images.get_many, collection=collection, ids=asked.ids)
        store = app.store(collection.bucket)
        return Json(Page([responses.image(image, store) for image in found], None).as_json())
    page = await service.recent(app, collection, asked.filters(), limit=asked.limit, cursor=asked.cursor)
    return Json(page.as_json())


@operation(asks=requests.InCollection, answers=ImageDetails)
async def one(request: Request, asked: requests.InCollection) -> Response:
    """GET /api/images/{id}: one image with its EXIF."""
    app = app_context(request)
    collection = await app.collection(asked.bucket)
    image = await service.the_image(app, collection, requests.image_id(request.path_params["id"]))
    details = await app.database.read(images.details, collection=collection, image_id=image.id)
    return Json({**responses.image(image, app.store(collection.bucket)), **(details or {})})


@operation(asks=requests.Similar, answers=Hits)
async def similar(request: Request, asked: requests.Similar) -> Response:
    """GET /api/images/{id}/similar: an image's visual neighbours, itself left out."""
    app = app_context(request)
    collection = await app.collection(asked.bucket)
    image = await service.the_image(app, collection, requests.image_id(request.path_params["id"]))
    query = await service.similar_query(app, collection, image)
    page = await service.ranked(
        app, collection, query, asked.filters(), strict=asked.strict, limit=asked.limit, cursor=asked.cursor
    )
    return Json(page.as_json())
