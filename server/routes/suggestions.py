"""Suggestions while a query is typed."""

from dataclasses import asdict

from starlette.requests import Request
from starlette.responses import Response

from server.context import app_context
from server.schemas import requests
from server.schemas.openapi import Operation
from server.schemas.requests import SuggestQuery
from server.schemas.responses import FastJSONResponse, SuggestionList


@Operation(query=SuggestQuery, response=SuggestionList)
async def suggest(request: Request) -> Response:
    """GET /api/suggest: cameras, places, keywords and file names that complete the last words of a query.

    Those that complete more words come first, then the most frequent; file names are last. Cameras, places and
    keywords are cached for a minute.
    """
    query = requests.parse(SuggestQuery, request)
    context = app_context(request)
    found = await context.with_collection(query.bucket, context.suggestions.suggest, query.q)
    return FastJSONResponse({"suggestions": [asdict(each) for each in found]})
