"""Lists of images, single images and their visual neighbours."""

from starlette.requests import Request
from starlette.responses import Response

from server.context import app_context
from server.schemas import requests, responses
from server.schemas.openapi import Operation
from server.schemas.requests import CollectionQuery, ListQuery, RankedQuery
from server.schemas.responses import FastJSONResponse, HitPage, ImageDetails, ImagePage


@Operation(query=ListQuery, response=ImagePage)
async def list_images(request: Request) -> Response:
    """GET /api/images: images by date, newest first unless `sort` says otherwise.

    Images are listed as soon as they are uploaded, embedded or not. With `ids`, only those images are returned, in that
    order and as far as they exist: a page polls them this way. With `around`, the page has that image in its middle,
    and `previous_cursor` leads to the images before.
    """
    query = requests.parse(ListQuery, request)
    context = app_context(request)
    if query.ids:
        found = await context.with_collection(query.bucket, context.search.by_ids, query.ids)
    elif query.around:
        found = await context.with_collection(query.bucket, context.search.around, query.around, query.page())
    else:
        found = await context.with_collection(query.bucket, context.search.list_images, query.page())
    return FastJSONResponse(responses.image_page(found, context.stores))


@Operation(query=CollectionQuery, response=ImageDetails)
async def get_image(request: Request) -> Response:
    """GET /api/images/{id}: one image with its EXIF."""
    query = requests.parse(CollectionQuery, request)
    image_id = requests.parse_image_id(request)
    context = app_context(request)
    found = await context.with_collection(query.bucket, context.search.record, image_id)
    return FastJSONResponse({**responses.image_item(found.image, context.stores.get(found.bucket)), **found.metadata})


@Operation(query=RankedQuery, response=HitPage)
async def list_similar_images(request: Request) -> Response:
    """GET /api/images/{id}/similar: visual neighbours of an image, without the image itself."""
    query = requests.parse(RankedQuery, request)
    image_id = requests.parse_image_id(request)
    context = app_context(request)
    found = await context.with_collection(query.bucket, context.search.similar, image_id, query.page())
    return FastJSONResponse(responses.hit_page(found, context.stores))
