"""Collections and how far they are."""

from dataclasses import asdict
from typing import Any

from sse_starlette import EventSourceResponse
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from typing_extensions import TypedDict

from server import parameters, stats
from server.openapi import operation
from server.services import Services, services
from shared.db.pool import Connection
from shared.progress import Status
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


async def summaries(app: Services) -> list[dict[str, Any]]:
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


@operation(asks=parameters.Query, answers=Collections, errors=(503,))
async def every(request: Request, _asked: parameters.Query) -> Response:
    """GET /api/collections: the collections that this server shows."""
    return JSONResponse({"collections": await summaries(services(request))})


@operation(asks=parameters.InCollection, answers=Status)
async def figures(request: Request, asked: parameters.InCollection) -> Response:
    """GET /api/stats: how far a collection is."""
    app = services(request)
    collection = await app.collection(asked.bucket)
    return JSONResponse(await app.database.read(lambda conn: stats.read(conn, collection)))


@operation(asks=parameters.InCollection, answers=str, media_type="text/event-stream")
async def stream(request: Request, asked: parameters.InCollection) -> Response:
    """GET /api/stats/stream: how far a collection is, as server-sent events named `stats`, at once and on every change.

    The data of each event is what `/api/stats` answers.
    """
    app = services(request)
    collection = await app.collection(asked.bucket)

    headers = {"Cache-Control": "no-store", "X-Accel-Buffering": "no"}
    if request.method == "HEAD":
        # What has no body would not end by itself.
        return Response(headers=headers, media_type="text/event-stream")

    return EventSourceResponse(app.feed.listen(collection), headers=headers)
