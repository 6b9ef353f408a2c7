"""Requests that meet a collection's switch to another model."""

import asyncio

from starlette.requests import Request
from starlette.responses import Response

from server import problems
from shared.errors import ModelChanged, ServiceError

# Seconds before each new start. A replica of the database can be behind for a moment.
PAUSES = (0.0, 0.1, 0.3, 1.0, 3.0)


async def start_over(request: Request, error: Exception) -> Response:
    """Answer a request from its beginning, with the model that the collection has by now."""
    for pause in PAUSES:
        await asyncio.sleep(pause)
        try:
            response: Response = await request.scope["endpoint"](request)
        except ModelChanged as exc:
            error = exc
        else:
            return response
    return await problems.handle(request, ServiceError(str(error), transient=True))
