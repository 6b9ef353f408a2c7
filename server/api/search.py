"""Search by what an address can hold."""

from starlette.requests import Request
from starlette.responses import Response

from server import composing, lists, parameters
from server.answers import Json
from server.openapi import operation
from server.presenting import Hits
from server.problems import Problem
from server.services import services


@operation(asks=parameters.Search, answers=Hits, errors=(400, 404, 409, 429, 503))
async def by_text(request: Request, asked: parameters.Search) -> Response:
    """GET /api/search: the images nearest to a text, a picture, or a sum of them, nearest first.

    Where all words of a text stand in an image's file name, keywords, caption or folders, that counts too: both
    rankings are fused, and an image whose very name is asked for (with or without its extension) comes first. Such an
    image is not weak, and is found before it has a vector: then its `score` is null. Without such images the list is in
    the order of `score`.
    """
    app = services(request)
    collection = await app.collection(asked.bucket)
    terms = asked.terms()
    if not terms:
        raise Problem(400, "q is missing: give the words to search for, or query_image, or term")
    query = await composing.query_of(app, collection, terms, name="term")
    page = await lists.ranked(
        app, collection, query, asked.filters(), strict=asked.strict, limit=asked.limit, cursor=asked.cursor
    )
    return Json(page.as_json())
