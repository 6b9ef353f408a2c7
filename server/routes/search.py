"""Search by what an address can hold."""

from starlette.requests import Request
from starlette.responses import Response

from server.context import app_context
from server.schemas import requests
from server.schemas.errors import Problem
from server.schemas.json_response import Json
from server.schemas.openapi import operation
from server.schemas.responses import Hits
from server.search import query_builder, service


@operation(asks=requests.Search, answers=Hits, errors=(400, 404, 409, 429, 503))
async def by_text(request: Request, asked: requests.Search) -> Response:
    """GET /api/search: the images nearest to a text, a picture, or a sum of them, nearest first.

    Where all words of a text stand in an image's file name, keywords, caption or folders, that counts too: both
    rankings are fused, and an image whose very name is asked for (with or without its extension) comes first. Such an
    image is not weak, and is found before it has a vector: then its `score` is null. Without such images the list is in
    the order of `score`.
    """
    app = app_context(request)
    collection = await app.collection(asked.bucket)
    terms = asked.terms()
    if not terms:
        raise Problem(400, "q is missing: give the words to search for, or query_image, or term")
    query = await query_builder.query_of(app, collection, terms, name="term")
    page = await service.ranked(
        app, collection, query, asked.filters(), strict=asked.strict, limit=asked.limit, cursor=asked.cursor
    )
    return Json(page.as_json())
