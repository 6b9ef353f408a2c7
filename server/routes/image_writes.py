"""Add and delete images. ``AuthMiddleware`` admits only requests with a token that may write."""

from urllib.parse import quote

from starlette.requests import Request
from starlette.responses import Response

from server import image_upload, request_body
from server.context import AppContext, app_context
from server.request_body import BodyLimit
from server.schemas import openapi, requests, responses
from server.schemas.openapi import Operation
from server.schemas.requests import AddImageQuery, CollectionQuery
from server.schemas.responses import FastJSONResponse, ImageItem
from shared import object_deletion
from shared.images import examine
from shared.models import Collection


@Operation(
    query=AddImageQuery,
    body=openapi.file_body("application/octet-stream"),
    response=ImageItem,
    statuses=(201, 200),
    errors=(400, 401, 403, 404, 408, 409, 413, 415, 422, 429, 503),
    writes=True,
)
async def add_image(request: Request) -> Response:
    """POST /api/images: add an image, sent as the body or as the form field `file`.

    It can be browsed at once. It can be searched for at once if the collection's model runs on the server, else as soon
    as a syncer has embedded it. If the collection has the same content already, that image is returned with status 200.
    A `key` of another image is refused; a key derived from a file name then gets a part of the content's hash.
    """
    query = requests.parse(AddImageQuery, request)
    context = app_context(request)
    await context.collection(query.bucket, fresh=True)  # refuse an unknown bucket before the upload
    limit = BodyLimit("the file", context.settings.upload_max_bytes)
    if query.key is not None:
        image_upload.check_image_key(query.key)
    async with request_body.received_file(request, limit) as file:
        examined = await context.decoder.run(examine, file.path)
        filename = query.filename or file.filename or ""
        keys = [query.key] if query.key else image_upload.keys_for(filename, examined.sha256)
        added = await context.with_collection(query.bucket, image_upload.add_image, context, file.path, examined, keys)
    return FastJSONResponse(
        responses.image_item(added.image, context.stores.get(added.bucket)),
        status_code=201 if added.is_new else 200,
        headers={"Location": f"/api/images/{added.image.id}?bucket={quote(added.bucket, safe='')}"},
    )


@Operation(query=CollectionQuery, statuses=(204,), errors=(400, 401, 403, 404, 429, 503), writes=True)
async def delete_image(request: Request) -> Response:
    """DELETE /api/images/{id}: delete an image with its vector, its object and its thumbnails.

    A sync of a folder with the same content does not upload it again. An adopted object stays in the bucket and is not
    adopted again.
    """
    query = requests.parse(CollectionQuery, request)
    image_id = requests.parse_image_id(request)
    context = app_context(request)
    await context.with_collection(query.bucket, _delete, context, image_id)
    return Response(status_code=204)


async def _delete(collection: Collection, context: AppContext, image_id: int) -> None:
    await context.search.image(collection, image_id)  # a 404 for an unknown one
    store = context.stores.get(collection.bucket)
    await object_deletion.delete_images(context.database, store, collection, [image_id], tombstone=True)
