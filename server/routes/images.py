"""Recent images, single images and their visual neighbours."""

from starlette.requests import Request
from starlette.responses import Response

from server.context import app_context
from server.schemas import requests, responses
from server.schemas.openapi import Operation
from server.schemas.requests import CollectionQuery, ListQuery, SimilarQuery
from server.schemas.responses import FastJSONResponse, HitPage, ImageDetails, ImagePage
from server.search import service
from server.search.service import Page
from shared.sql import images


@Operation(query=ListQuery, response=ImagePage)
async def list_images(request: Request) -> Response:
    """GET /api/images: recent images, newest first.

    Images are listed as soon as they are uploaded, embedded or not. With `ids`, only those images are returned, in that
    order and as far as they exist: a page polls them this way.
    """
    query = requests.parse(ListQuery, request)
    app = app_context(request)
    collection = await app.collection(query.bucket)
    if query.ids:
        found = await app.database.read(images.get_many, collection=collection, ids=query.ids)
        store = app.store(collection.bucket)
        return FastJSONResponse(Page([responses.image_item(image, store) for image in found], None).as_json())
    page = await service.recent(app, collection, query.filters(), limit=query.limit, cursor=query.cursor)
    return FastJSONResponse(page.as_json())


@Operation(query=CollectionQuery, response=ImageDetails)
async def get_image(request: Request) -> Response:
    """GET /api/images/{id}: one image with its EXIF."""
    query = requests.parse(CollectionQuery, request)
    image_id = requests.parse_image_id(request.path_params["id"])
    app = app_context(request)
    collection = await app.collection(query.bucket)
    image = await service.the_image(app, collection, image_id)
    details = await app.database.read(images.details, collection=collection, image_id=image.id)
    return FastJSONResponse({**responses.image_item(image, app.store(collection.bucket)), **(details or {})})


@Operation(query=SimilarQuery, response=HitPage)
async def list_similar_images(request: Request) -> Response:
    """GET /api/images/{id}/similar: visual neighbours of an image, without the image itself."""
    query = requests.parse(SimilarQuery, request)
    image_id = requests.parse_image_id(request.path_params["id"])
    app = app_context(request)
    collection = await app.collection(query.bucket)
    image = await service.the_image(app, collection, image_id)
    built = await service.similar_query(app, collection, image)
    page = await service.ranked(
        app, collection, built, query.filters(), strict=query.strict, limit=query.limit, cursor=query.cursor
    )
    return FastJSONResponse(page.as_json())
