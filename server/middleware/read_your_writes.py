"""Reads that see the client's own writes, although replicas lag behind the primary."""

import re
from contextlib import suppress

from starlette.datastructures import MutableHeaders
from starlette.requests import Request
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from server.middleware.auth import READ_ONLY_POSTS, SAFE_METHODS
from shared.db.replicas import current_position, read_after
from shared.errors import DatabaseError

COOKIE = "read_after"
_LIFETIME = 60  # seconds; a replica that lags longer serves stale reads
_POSITION = re.compile(r"[0-9A-F]{1,8}/[0-9A-F]{1,8}")


class ReadYourWrites:
    """Middleware that sets a cookie with the position of the primary after a write, and lets reads wait for it."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        request = Request(scope)
        cookie = request.cookies.get(COOKIE, "")
        outer = read_after.set(cookie if _POSITION.fullmatch(cookie) else None)
        is_write = request.method not in SAFE_METHODS and scope["path"] not in READ_ONLY_POSTS
        try:
            await self._app(scope, receive, _send_position(request, send) if is_write else send)
        finally:
            read_after.reset(outer)


def _send_position(request: Request, send: Send) -> Send:
    async def send_position(message: Message) -> None:
        if message["type"] == "http.response.start" and message["status"] < 400:
            with suppress(DatabaseError):  # the write has succeeded
                position = await request.app.state.context.database.run(current_position)
                value = f"{COOKIE}={position}; Path=/; Max-Age={_LIFETIME}; HttpOnly; SameSite=Lax"
                MutableHeaders(scope=message).append("Set-Cookie", value)
        await send(message)

    return send_position
