"""The months in which images were taken."""

from starlette.requests import Request
from starlette.responses import Response

from server.context import app_context
from server.schemas import requests, responses
from server.schemas.openapi import Operation
from server.schemas.requests import TimelineQuery
from server.schemas.responses import FastJSONResponse, TimelineMonths


@Operation(query=TimelineQuery, response=TimelineMonths)
async def get_timeline(request: Request) -> Response:
    """GET /api/timeline: numbers of images by month, with a cursor for each, cached for some seconds.

    Months are those of the camera's clock; lists are ordered by the moment. Where they differ, near the end of a month,
    the list at a month's cursor begins with its first image and may contain images of the month before.
    """
    query = requests.parse(TimelineQuery, request)
    context = app_context(request)
    months = await context.with_collection(query.bucket, context.search.timeline, query.page())
    return FastJSONResponse(responses.timeline_months(months))
