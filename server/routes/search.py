"""Search by text, picture or a weighted sum of them."""

from starlette.requests import Request
from starlette.responses import Response

from server.context import app_context
from server.schemas import requests
from server.schemas.errors import Problem
from server.schemas.openapi import Operation
from server.schemas.requests import ComposedSearchBody, SearchQuery
from server.schemas.responses import FastJSONResponse, HitPage
from server.search import query_builder, service
from shared.models import Filters


@Operation(query=SearchQuery, response=HitPage, errors=(400, 404, 409, 429, 503))
async def search(request: Request) -> Response:
    """GET /api/search: images nearest to a text, a picture or a sum of them, nearest first.

    A text also matches file names, keywords, captions and folders that contain all its words: both rankings are fused,
    and an image whose file name is the text (with or without extension) comes first. Such an image is never weak,
    and is found before it has a vector: its `score` is then null. Without such matches the list is ordered by `score`.
    """
    query = requests.parse(SearchQuery, request)
    terms = query.terms()
    if not terms:
        raise Problem(400, "q is missing: give the words to search for, or query_image, or term")
    app = app_context(request)
    collection = await app.collection(query.bucket)
    built = await query_builder.query_of(app, collection, terms, name="term")
    page = await service.ranked(
        app, collection, built, query.filters(), strict=query.strict, limit=query.limit, cursor=query.cursor
    )
    return FastJSONResponse(page.as_json())


@Operation(body=ComposedSearchBody, response=HitPage, errors=(400, 404, 408, 409, 413, 415, 429, 503))
async def search_composed(request: Request) -> Response:
    """POST /api/search: images nearest to a weighted sum of texts and images, nearest first.

    A term with a negative weight counts against: "this photo + at night - people". Images that are terms are left out.
    """
    body = await requests.parse_body(ComposedSearchBody, request)
    app = app_context(request)
    collection = await app.collection(body.bucket)
    built = await query_builder.query_of(app, collection, [term.term() for term in body.terms])
    filters = body.filters.filters() if body.filters else Filters()
    page = await service.ranked(
        app, collection, built, filters, strict=body.strict, limit=body.limit, cursor=body.cursor
    )
    return FastJSONResponse(page.as_json())
