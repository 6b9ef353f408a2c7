"""Search by text."""

from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from server import lists, parameters
from server.openapi import operation
from server.presenting import Hits
from server.services import services


@operation(asks=parameters.Search, answers=Hits, errors=(400, 404, 429, 503))
async def by_text(request: Request, asked: parameters.Search) -> Response:
    """GET /api/search: the images nearest to a text, nearest first."""
    app = services(request)
    collection = await app.collection(asked.bucket)
    query = await lists.text_query(app, collection, asked.q)
    page = await lists.ranked(
        app, collection, query, asked.filters(), strict=asked.strict, limit=asked.limit, cursor=asked.cursor
    )
    return JSONResponse(page.as_json())
