"""Search by text, picture or a weighted sum of them."""

from starlette.requests import Request
from starlette.responses import Response

from server.context import AppContext, app_context
from server.problem import Problem
from server.schemas import requests, responses
from server.schemas.openapi import Operation
from server.schemas.requests import ComposedSearchBody, SearchQuery
from server.schemas.responses import FastJSONResponse, HitPage, SearchPage
from shared.models import Collection


@Operation(query=SearchQuery, response=SearchPage, errors=(400, 404, 409, 429, 503))
async def search(request: Request) -> Response:
    """GET /api/search: images nearest to a text, a picture or a sum of them, nearest first.

    A text also matches file names, keywords, captions and folders that contain all its words: both rankings are fused,
    and an image whose file name is the text (with or without extension) comes first. Such an image is never weak,
    and is found before it has a vector: its `score` is then null. Without such matches the list is ordered by `score`.

    With `parse=1`, dates, cameras and other filters in `q` restrict the list, and `understood` tells the parts of `q`
    with the parameters that each stands for. If nothing else is left, the images are listed by date, without a `score`.
    """
    query = requests.parse(SearchQuery, request)
    if not query.terms():
        raise Problem(400, "q is missing: give the words to search for, or query_image, or term")
    context = app_context(request)
    return FastJSONResponse(await context.with_collection(query.bucket, _search, context, query))


async def _search(collection: Collection, context: AppContext, query: SearchQuery) -> SearchPage:
    read = await context.query_reader.read(collection, query.typed(), query.page())
    found = await context.search.search(collection, read.terms, read.page)
    return responses.search_page(found, read.parts, context.stores)


@Operation(body=ComposedSearchBody, response=HitPage, errors=(400, 404, 408, 409, 413, 415, 429, 503))
async def search_composed(request: Request) -> Response:
    """POST /api/search: images nearest to a weighted sum of texts and images, nearest first.

    A term with a negative weight counts against: "this photo + at night - people". Images that are terms are left out.
    """
    body = await requests.parse_body(ComposedSearchBody, request)
    context = app_context(request)
    terms = [term.term() for term in body.terms]
    found = await context.with_collection(body.bucket, context.search.search, terms, body.page(), name="terms")
    return FastJSONResponse(responses.hit_page(found, context.stores))
