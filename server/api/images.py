"""Images: recent ones, single ones, neighbours."""

from functools import partial

from starlette.requests import Request
from starlette.responses import Response

from server import lists, parameters, presenting
from server.answers import Json
from server.lists import Page
from server.openapi import operation
from server.presenting import Hits, ImageDetails, Images
from server.services import services
from shared.sql import images


@operation(asks=parameters.Recent, answers=Images)
async def recent(request: Request, asked: parameters.Recent) -> Response:
    """GET /api/images: recent images, newest first.

    Images are here as soon as they are uploaded, embedded or not. With `ids` those images alone, in that order, as far
    as they are there: how a page learns what became of them.
    """
    app = services(request)
    collection = await app.collection(asked.bucket)
    if asked.ids:
        found = await app.database.read(partial(images.get_many, collection=collection, ids=asked.ids))
        store = app.store(collection.bucket)
        return Json(Page([presenting.image(image, store) for image in found], None).as_json())
    page = await lists.recent(app, collection, asked.filters(), limit=asked.limit, cursor=asked.cursor)
    return Json(page.as_json())


@operation(asks=parameters.InCollection, answers=ImageDetails)
async def one(request: Request, asked: parameters.InCollection) -> Response:
    """GET /api/images/{id}: one image with its EXIF."""
    app = services(request)
    collection = await app.collection(asked.bucket)
    image = await lists.the_image(app, collection, parameters.image_id(request.path_params["id"]))
    details = await app.database.read(partial(images.details, collection=collection, image_id=image.id))
    return Json({**presenting.image(image, app.store(collection.bucket)), **(details or {})})


@operation(asks=parameters.Similar, answers=Hits)
async def similar(request: Request, asked: parameters.Similar) -> Response:
    """GET /api/images/{id}/similar: an image's visual neighbours, itself left out."""
    app = services(request)
    collection = await app.collection(asked.bucket)
    image = await lists.the_image(app, collection, parameters.image_id(request.path_params["id"]))
    query = await lists.similar_query(app, collection, image)
    page = await lists.ranked(
        app, collection, query, asked.filters(), strict=asked.strict, limit=asked.limit, cursor=asked.cursor
    )
    return Json(page.as_json())
