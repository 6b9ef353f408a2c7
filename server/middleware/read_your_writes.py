"""Reads that see the client's own writes, although replicas lag behind the primary."""

import re
from contextlib import suppress

from starlette.datastructures import MutableHeaders
from starlette.requests import Request
from starlette.types import Message, Receive, Scope, Send

from server.middleware.auth import READ_ONLY_POSTS, SAFE_METHODS
from server.middleware.base import HttpMiddleware, before_start
from shared.db.replicas import current_position, read_after
from shared.errors import DatabaseError

COOKIE = "read_after"
_LIFETIME = 60  # seconds; a replica that lags longer serves stale reads
_POSITION = re.compile(r"[0-9A-F]{1,8}/[0-9A-F]{1,8}")


class ReadYourWrites(HttpMiddleware):
    """Middleware that sets a cookie with the position of the primary after a write, and lets reads wait for it."""

    async def handle(self, scope: Scope, receive: Receive, send: Send) -> None:
        request = Request(scope)
        cookie = request.cookies.get(COOKIE, "")
        outer = read_after.set(cookie if _POSITION.fullmatch(cookie) else None)
        is_write = request.method not in SAFE_METHODS and scope["path"] not in READ_ONLY_POSTS

        async def add_position(start: Message) -> None:
            if start["status"] < 400:
                with suppress(DatabaseError):  # the write has succeeded
                    position = await request.app.state.context.database.run(current_position)
                    value = f"{COOKIE}={position}; Path=/; Max-Age={_LIFETIME}; HttpOnly; SameSite=Lax"
                    MutableHeaders(scope=start).append("Set-Cookie", value)

        try:
            await self._app(scope, receive, before_start(send, add_position) if is_write else send)
        finally:
            read_after.reset(outer)
