"""Search by text."""

from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from server import lists, parameters
from server.problems import Problem
from server.services import services


async def by_text(request: Request) -> Response:
    """GET /api/search: the images nearest to a text, nearest first."""
    app = services(request)
    text = parameters.text(request.query_params, "q", longest=parameters.MAX_QUERY)
    if text is None:
        raise Problem(400, "q is missing: give the words to search for")
    collection = await app.collection(request.query_params.get("bucket"))
    page = await lists.found_by_text(
        app,
        collection,
        text,
        limit=parameters.limit(request.query_params),
        cursor=request.query_params.get("cursor"),
    )
    return JSONResponse(page.as_json())
