"""Collections and their progress."""

from sse_starlette import EventSourceResponse
from starlette.requests import Request
from starlette.responses import Response

from server import pages
from server.context import app_context
from server.schemas import requests, responses
from server.schemas.openapi import Operation
from server.schemas.requests import CollectionQuery
from server.schemas.responses import CollectionList, FastJSONResponse
from shared.collection_status import Status


async def show_collections(request: Request) -> Response:
    """GET /collections: the page of all collections, each with its latest image and its progress."""
    context = app_context(request)
    counts = await context.counts()
    latest = await context.search.latest_of_each(list(counts))
    covers = {found.bucket: responses.image_page(found, context.stores)["images"] for found in latest}
    page = {"collections": responses.sorted_by_name(responses.collection_list(counts)), "covers": covers}
    return pages.render(request, "collections.html", page)


@Operation(response=CollectionList, errors=(503,))
async def list_collections(request: Request) -> Response:
    """GET /api/collections: the collections that this server shows."""
    context = app_context(request)
    counts = await context.counts()
    return FastJSONResponse(responses.collection_list(counts))


@Operation(query=CollectionQuery, response=Status)
async def get_stats(request: Request) -> Response:
    """GET /api/stats: progress of a collection."""
    query = requests.parse(CollectionQuery, request)
    context = app_context(request)
    return FastJSONResponse(await context.with_collection(query.bucket, context.stats_feed.current))


@Operation(query=CollectionQuery, response=str, media_type="text/event-stream")
async def stream_stats(request: Request) -> Response:
    """GET /api/stats/stream: progress of a collection as server-sent events.

    An event named `stats` is sent at once and on every change, with the data that `/api/stats` returns.
    """
    query = requests.parse(CollectionQuery, request)
    context = app_context(request)
    collection = await context.collection(query.bucket)
    headers = {"Cache-Control": "no-store", "X-Accel-Buffering": "no"}
    if request.method == "HEAD":
        # A stream without a body would never end.
        return Response(headers=headers, media_type="text/event-stream")
    return EventSourceResponse(context.stats_feed.listen(collection), headers=headers)
