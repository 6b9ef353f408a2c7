"""Images: recent ones, single ones, neighbours."""

from functools import partial

from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from server import lists, parameters, presenting
from server.lists import Page
from server.services import services
from shared.sql import images


async def recent(request: Request) -> Response:
    """GET /api/images: recent first; images are here as soon as they are uploaded, embedded or not.

    With ``ids`` those images alone, in that order, as far as they are there: how a page learns what became of them.
    """
    app = services(request)
    collection = await app.collection(request.query_params.get("bucket"))
    if ids := parameters.ids(request.query_params):
        found = await app.database.run(partial(images.get_many, collection=collection, ids=ids))
        store = app.store(collection.bucket)
        return JSONResponse(Page([presenting.image(image, store) for image in found], None).as_json())
    page = await lists.recent(
        app, collection, limit=parameters.limit(request.query_params), cursor=request.query_params.get("cursor")
    )
    return JSONResponse(page.as_json())


async def one(request: Request) -> Response:
    """GET /api/images/{id}: one image with its EXIF."""
    app = services(request)
    collection = await app.collection(request.query_params.get("bucket"))
    image = await lists.the_image(app, collection, parameters.image_id(request.path_params["id"]))
    details = await app.database.run(partial(images.details, collection=collection, image_id=image.id))
    return JSONResponse(presenting.image(image, app.store(collection.bucket)) | (details or {}))


async def similar(request: Request) -> Response:
    """GET /api/images/{id}/similar: visual neighbours, itself left out."""
    app = services(request)
    collection = await app.collection(request.query_params.get("bucket"))
    image = await lists.the_image(app, collection, parameters.image_id(request.path_params["id"]))
    page = await lists.similar(
        app,
        collection,
        image,
        limit=parameters.limit(request.query_params),
        cursor=request.query_params.get("cursor"),
    )
    return JSONResponse(page.as_json())
