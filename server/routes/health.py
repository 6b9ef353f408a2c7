"""Liveness, readiness and metrics."""

from prometheus_client import CONTENT_TYPE_LATEST
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from server import metrics
from server.context import app_context
from server.schemas.openapi import Operation
from shared.db.pool import Connection
from shared.errors import ServiceError
from shared.models import Counts
from shared.sql import collections, stats


@Operation(response=dict[str, str], errors=())
async def get_liveness(_request: Request) -> Response:
    """GET /healthz: the process is alive."""
    return JSONResponse({"status": "ok"})


@Operation(response=dict[str, str], errors=())
async def get_readiness(request: Request) -> Response:
    """GET /readyz: the database can be reached; a 503 with the reason if not."""
    try:
        await app_context(request).database.run(collections.list_all)
    except ServiceError as exc:
        return JSONResponse({"status": "unavailable", "database": str(exc)}, status_code=503)
    return JSONResponse({"status": "ok", "database": "ok"})


@Operation(response=str, media_type=CONTENT_TYPE_LATEST, errors=())
async def get_metrics(request: Request) -> Response:
    """GET /metrics: metrics for Prometheus.

    Requests by route and status, their latency, model calls, hits of the query vector cache, connection pools, and
    images by bucket and state.
    """
    app = app_context(request)

    async def counts(conn: Connection) -> dict[str, Counts]:
        return {c.bucket: await stats.counts(conn, c) for c in shown}

    try:
        shown = await app.collections()
        found = await app.database.read(counts)
    except ServiceError:
        found = {}  # the other metrics show the outage
    return Response(metrics.exposition(found), media_type=CONTENT_TYPE_LATEST)
