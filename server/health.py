"""Whether the process is alive, and whether it can serve."""

from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from server.services import services
from shared.errors import ServiceError
from shared.sql import collections


async def alive(_request: Request) -> Response:
    """GET /healthz: the process answers."""
    return JSONResponse({"status": "ok"})


async def ready(request: Request) -> Response:
    """GET /readyz: the database answers too; 503 with the reason when it does not."""
    try:
        await services(request).database.run(collections.every)
    except ServiceError as exc:
        return JSONResponse({"status": "unavailable", "database": str(exc)}, status_code=503)
    return JSONResponse({"status": "ok", "database": "ok"})
