"""What filters have to choose from."""

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from typing_extensions import TypedDict

from server.context import app_context
from server.schemas import requests
from server.schemas.openapi import operation


class Camera(TypedDict):
    """A camera, and how many images are of it."""

    camera: str
    count: int


class Folder(TypedDict):
    """A folder, by its whole path, and how many images are in it or below it."""

    folder: str
    count: int


class Type(TypedDict):
    """A media type, and how many images have it."""

    type: str
    count: int


class FacetsAnswer(TypedDict):
    """The values that filters leave images for, those of the most images first, at most 200 of each; and when the first
    and the last image were taken (ISO 8601), null where none says so."""

    cameras: list[Camera]
    folders: list[Folder]
    types: list[Type]
    first_taken: str | None
    last_taken: str | None


@operation(asks=requests.Facets, answers=FacetsAnswer)
async def choices(request: Request, asked: requests.Facets) -> Response:
    """GET /api/facets: what filters have to choose from in a collection, with counts, as it was some moments ago."""
    app = app_context(request)
    collection = await app.collection(asked.bucket)
    facets = await app.facets.of(app.database, collection, asked.folder.strip("/") or None if asked.folder else None)
    answer: FacetsAnswer = {
        "cameras": [{"camera": name, "count": count} for name, count in facets.cameras.items()],
        "folders": [{"folder": path, "count": count} for path, count in facets.folders.items()],
        "types": [{"type": name, "count": count} for name, count in facets.types.items()],
        "first_taken": facets.first_taken.isoformat() if facets.first_taken else None,
        "last_taken": facets.last_taken.isoformat() if facets.last_taken else None,
    }
    return JSONResponse(answer)
