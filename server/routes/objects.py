"""Objects of folder stores, which have no address of their own."""

from starlette.convertors import PathConvertor, register_url_convertor
from starlette.requests import Request
from starlette.responses import FileResponse, Response

from server.context import app_context
from server.problem import Problem
from shared.errors import ImageRefused, ObjectMissing
from shared.stores.folder import FolderStore


class KeyConvertor(PathConvertor):
    """Matches any key in a path. Starlette's own convertor for paths stops at a line break."""

    regex = r"[\s\S]*"


register_url_convertor("key", KeyConvertor())


async def get_object(request: Request) -> Response:
    """GET /files/{bucket}/{key}: an object, with ranges and conditional requests."""
    context = app_context(request)
    collection = await context.collection(request.path_params["bucket"])
    store = context.stores.get(collection.bucket)
    if not isinstance(store, FolderStore):
        raise Problem(404, "this server does not serve objects: use the `url` of an image")
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
    # A URL with the version of the content never changes its meaning.
    if request.query_params.get("v"):
        headers["Cache-Control"] = "private, max-age=31536000, immutable"
    if _is_cached(request, headers["ETag"]):
        return Response(status_code=304, headers=headers)
    # A bucket can hold anything, and only images are safe to show: a browser would run HTML or SVG.
    media_type = found.content_type if (found.content_type or "").startswith("image/") else "application/octet-stream"
    return FileResponse(path, media_type=media_type, headers=headers)


def _is_cached(request: Request, etag: str) -> bool:
    """Return whether the client has this version. Caches on the way may mark its ETag as weak."""
    etags = {part.strip().removeprefix("W/") for part in request.headers.get("If-None-Match", "").split(",")}
    return not etags.isdisjoint({etag, "*"})
