"""Requests that meet a collection's switch to another model, or its end."""

import asyncio

from psycopg.errors import UndefinedTable
from starlette.requests import Request
from starlette.responses import Response

from server.context import app_context
from server.schemas import errors
from shared.errors import ModelChanged, ServiceError

# Seconds before each new start. A replica of the database can be behind for a moment.
PAUSES = (0.0, 0.1, 0.3, 1.0, 3.0)

# What tells that a collection is not what it was a second ago: its model, or that it is there at all.
CHANGED = (ModelChanged, UndefinedTable)


async def start_over(request: Request, error: Exception) -> Response:
    """Answer a request from its beginning, with the collection as it is by now."""
    for pause in PAUSES:
        await asyncio.sleep(pause)
        app_context(request).known.forget()
        try:
            response: Response = await request.scope["endpoint"](request)
        except CHANGED as exc:
            error = exc
        else:
            return response
    return await errors.handle(request, ServiceError(str(error), transient=True))
