"""Who the client is, where a proxy stands in front of the server."""

from collections.abc import Sequence
from typing import Any

from starlette.types import ASGIApp, Receive, Scope, Send
from uvicorn.middleware.proxy_headers import ProxyHeadersMiddleware


class ProxyHeaders:
    """Takes the client's address and the scheme from what trusted proxies say, and from nobody else.

    Of several addresses the last counts that is no trusted proxy's: what stands before it, the client may have made
    up. *address_header* replaces X-Forwarded-For, for proxies that write the client alone into a header of their own.
    """

    def __init__(self, app: ASGIApp, *, trusted: Sequence[str], address_header: str) -> None:
        proxied: Any = app  # uvicorn has types of its own for what ASGI says
        self._app: Any = ProxyHeadersMiddleware(proxied, list(trusted))
        self._header = address_header.lower().encode()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and self._header != b"x-forwarded-for":
            headers = [(name, value) for name, value in scope["headers"] if name != b"x-forwarded-for"]
            named = [(b"x-forwarded-for", value) for name, value in headers if name == self._header]
            scope = {**scope, "headers": headers + named}
        await self._app(scope, receive, send)
