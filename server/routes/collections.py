"""Collections and their progress."""

from dataclasses import asdict
from typing import Any

from sse_starlette import EventSourceResponse
from starlette.requests import Request
from starlette.responses import Response

from server.context import AppContext, app_context
from server.schemas import requests
from server.schemas.openapi import Operation
from server.schemas.requests import CollectionQuery
from server.schemas.responses import CollectionList, FastJSONResponse
from shared.collection_status import Status
from shared.db.pool import Connection
from shared.sql import stats as stats_rows


async def summaries(app: AppContext) -> list[dict[str, Any]]:
    """Return the collections that the request may see, with their counts."""
    shown = await app.collections()

    async def read(conn: Connection) -> list[dict[str, Any]]:
        return [
            {"bucket": c.bucket}
            | asdict(await stats_rows.counts(conn, c))
            | {"model": c.model, "dimensions": c.dimensions, "title": c.title}
            for c in shown
        ]

    return await app.database.read(read)


@Operation(response=CollectionList, errors=(503,))
async def list_collections(request: Request) -> Response:
    """GET /api/collections: the collections that this server shows."""
    return FastJSONResponse({"collections": await summaries(app_context(request))})


@Operation(query=CollectionQuery, response=Status)
async def get_stats(request: Request) -> Response:
    """GET /api/stats: progress of a collection."""
    query = requests.parse(CollectionQuery, request)
    app = app_context(request)
    return FastJSONResponse(await app.with_collection(query.bucket, app.stats_feed.current))


@Operation(query=CollectionQuery, response=str, media_type="text/event-stream")
async def stream_stats(request: Request) -> Response:
    """GET /api/stats/stream: progress of a collection as server-sent events named `stats`, at once and on every change.

    The data of each event is what `/api/stats` returns.
    """
    query = requests.parse(CollectionQuery, request)
    app = app_context(request)
    collection = await app.collection(query.bucket)
    headers = {"Cache-Control": "no-store", "X-Accel-Buffering": "no"}
    if request.method == "HEAD":
        # A stream without a body would never end.
        return Response(headers=headers, media_type="text/event-stream")
    return EventSourceResponse(app.stats_feed.listen(collection), headers=headers)
