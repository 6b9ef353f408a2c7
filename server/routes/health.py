"""Liveness, readiness and metrics."""

from prometheus_client import CONTENT_TYPE_LATEST
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from server import metrics
from server.context import app_context
from server.schemas import errors
from server.schemas.openapi import Operation
from shared.errors import ServiceError


@Operation(response=dict[str, str], errors=())
async def get_liveness(_request: Request) -> Response:
    """GET /healthz: the process is alive."""
    return JSONResponse({"status": "ok"})


@Operation(response=dict[str, str], errors=())
async def get_readiness(request: Request) -> Response:
    """GET /readyz: the database can be reached and has its tables; a 503 with the reason if not."""
    cache = app_context(request).collection_cache
    cache.clear()
    try:
        await cache.all()
    except ServiceError as exc:
        return JSONResponse({"status": "unavailable", "database": errors.problem_of(exc).detail}, status_code=503)
    return JSONResponse({"status": "ok", "database": "ok"})


@Operation(response=str, media_type=CONTENT_TYPE_LATEST, errors=())
async def get_metrics(request: Request) -> Response:
    """GET /metrics: metrics for Prometheus.

    Requests by route and status, their latency, model calls, hits of the query vector cache, connection pools, and
    images by bucket and state.
    """
    context = app_context(request)
    try:
        counts = await context.counts()
    except ServiceError:
        counts = {}  # the other metrics show the outage
    by_bucket = {collection.bucket: each for collection, each in counts.items()}
    return Response(metrics.exposition(by_bucket), media_type=CONTENT_TYPE_LATEST)
