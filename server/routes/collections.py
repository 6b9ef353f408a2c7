"""Collections and how far they are."""

from dataclasses import asdict
from typing import Any

from sse_starlette import EventSourceResponse
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from typing_extensions import TypedDict

from server.cache import stats_feed
from server.context import AppContext, app_context
from server.schemas import requests
from server.schemas.openapi import operation
from shared.collection_status import Status
from shared.db.pool import Connection
from shared.sql import stats as stats_rows


class CollectionAnswer(TypedDict):
    """A collection. ``total = embedded + pending + failed``."""

    bucket: str
    total: int
    embedded: int
    pending: int
    failed: int
    model: str
    dimensions: int
    title: str


class Collections(TypedDict):
    """The collections that this server shows."""

    collections: list[CollectionAnswer]


async def summaries(app: AppContext) -> list[dict[str, Any]]:
    """Return the collections that this server shows, with their counts."""
    shown = await app.collections()

    async def read(conn: Connection) -> list[dict[str, Any]]:
        return [
            {"bucket": c.bucket}
            | asdict(await stats_rows.counts(conn, c))
            | {"model": c.model, "dimensions": c.dimensions, "title": c.title}
            for c in shown
        ]

    return await app.database.read(read)


@operation(asks=requests.Query, answers=Collections, errors=(503,))
async def every(request: Request, _asked: requests.Query) -> Response:
    """GET /api/collections: the collections that this server shows."""
    return JSONResponse({"collections": await summaries(app_context(request))})


@operation(asks=requests.InCollection, answers=Status)
async def figures(request: Request, asked: requests.InCollection) -> Response:
    """GET /api/stats: how far a collection is."""
    app = app_context(request)
    collection = await app.collection(asked.bucket)
    return JSONResponse(await app.database.read(lambda conn: stats_feed.read(conn, collection)))


@operation(asks=requests.InCollection, answers=str, media_type="text/event-stream")
async def stream(request: Request, asked: requests.InCollection) -> Response:
    """GET /api/stats/stream: how far a collection is, as server-sent events named `stats`, at once and on every change.

    The data of each event is what `/api/stats` answers.
    """
    app = app_context(request)
    collection = await app.collection(asked.bucket)

    headers = {"Cache-Control": "no-store", "X-Accel-Buffering": "no"}
    if request.method == "HEAD":
        # What has no body would not end by itself.
        return Response(headers=headers, media_type="text/event-stream")

    return EventSourceResponse(app.feed.listen(collection), headers=headers)
