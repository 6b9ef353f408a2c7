"""Search by text, picture or a weighted sum of them."""

from starlette.requests import Request
from starlette.responses import Response

from server.context import app_context
from server.problem import Problem
from server.schemas import requests, responses
from server.schemas.openapi import Operation
from server.schemas.requests import ComposedSearchBody, SearchQuery
from server.schemas.responses import FastJSONResponse, HitPage


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
    context = app_context(request)
    found = await context.with_collection(query.bucket, context.search.search, terms, query.page())
    return FastJSONResponse(responses.hit_page(found, context.stores))


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
