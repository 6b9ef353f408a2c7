"""Serves the objects of folder stores, which have no address of their own."""

from starlette.requests import Request
from starlette.responses import FileResponse, Response

from server.context import app_context
from server.schemas.errors import Problem
from shared.errors import ImageRefused, ObjectMissing
from shared.stores.folder import FolderStore


async def get_object(request: Request) -> Response:
    """GET /files/{bucket}/{key}: an object, with ranges and conditional requests."""
    app = app_context(request)
    collection = await app.collection(request.path_params["bucket"])
    store = app.store(collection.bucket)
    if not isinstance(store, FolderStore):
        raise Problem(404, "this server's images are not served from here")
    key = request.path_params["key"]
    try:
        found = await store.head(key)
        path = store.path(key)
    except (ObjectMissing, ImageRefused) as exc:
        raise Problem(404, str(exc)) from exc
    headers = {
        "ETag": f'"{found.etag}"'.replace('""', '"'),
        "Cache-Control": found.cache_control or "private, max-age=3600",
    }
    # An address that names the version of the content never means anything else.
    if request.query_params.get("v"):
        headers["Cache-Control"] = "private, max-age=31536000, immutable"
    if _has(request, headers["ETag"]):
        return Response(status_code=304, headers=headers)
    # A bucket may hold anything. What is no image is not for our pages, nor for a browser to run.
    media_type = found.content_type if (found.content_type or "").startswith("image/") else "application/octet-stream"
    return FileResponse(path, media_type=media_type, headers=headers)


def _has(request: Request, etag: str) -> bool:
    """Whether the browser has this version; a cache on the way may have marked it as weak."""
    known = {part.strip().removeprefix("W/") for part in request.headers.get("if-none-match", "").split(",")}
    return not known.isdisjoint({etag, "*"})
