"""Whether the process is alive, whether it can serve, and what it measures."""

from prometheus_client import CONTENT_TYPE_LATEST
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from server import metrics
from server.context import app_context
from server.schemas import requests
from server.schemas.openapi import operation
from shared.db.pool import Connection
from shared.errors import ServiceError
from shared.models import Counts
from shared.sql import collections, stats


@operation(asks=requests.Query, answers=dict[str, str], errors=())
async def alive(_request: Request, _asked: requests.Query) -> Response:
    """GET /healthz: the process answers."""
    return JSONResponse({"status": "ok"})


@operation(asks=requests.Query, answers=dict[str, str], errors=())
async def ready(request: Request, _asked: requests.Query) -> Response:
    """GET /readyz: the database answers too; 503 with the reason when it does not."""
    try:
        await app_context(request).database.run(collections.list_all)
    except ServiceError as exc:
        return JSONResponse({"status": "unavailable", "database": str(exc)}, status_code=503)
    return JSONResponse({"status": "ok", "database": "ok"})


@operation(asks=requests.Query, answers=str, media_type=CONTENT_TYPE_LATEST, errors=())
async def figures(request: Request, _asked: requests.Query) -> Response:
    """GET /metrics: what Prometheus collects.

    Requests by route and status, their time, model calls, where query vectors were found, the connection pools, images
    by bucket and state.
    """
    app = app_context(request)

    async def counts(conn: Connection) -> dict[str, Counts]:
        return {c.bucket: await stats.counts(conn, c) for c in shown}

    try:
        shown = await app.collections()
        found = await app.database.read(counts)
    except ServiceError:
        # The rest says so.
        found = {}
    return Response(metrics.exposition(found), media_type=CONTENT_TYPE_LATEST)
