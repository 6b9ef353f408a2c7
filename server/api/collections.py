"""Collections and how far they are."""

import json
from collections.abc import AsyncIterator
from dataclasses import asdict
from typing import Any

from sse_starlette import EventSourceResponse, ServerSentEvent
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from server import stats
from server.services import Services, services
from shared.db.pool import Connection
from shared.sql import stats as stats_rows


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

    return await app.database.run(read)


async def every(request: Request) -> Response:
    """GET /api/collections: all collections that this server shows."""
    return JSONResponse({"collections": await summaries(services(request))})


async def figures(request: Request) -> Response:
    """GET /api/stats: how far a collection is."""
    app = services(request)
    collection = await app.collection(request.query_params.get("bucket"))
    return JSONResponse(await app.database.run(lambda conn: stats.read(conn, collection)))


async def stream(request: Request) -> Response:
    """GET /api/stats/stream: the same as server-sent events named ``stats``, at once and on every change."""
    app = services(request)
    collection = await app.collection(request.query_params.get("bucket"))

    async def events() -> AsyncIterator[ServerSentEvent]:
        async for state in app.feed.listen(collection):
            yield ServerSentEvent(json.dumps(state), event="stats")

    return EventSourceResponse(events(), headers={"Cache-Control": "no-store", "X-Accel-Buffering": "no"})
