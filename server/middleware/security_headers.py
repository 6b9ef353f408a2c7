"""Security headers for every response."""

from starlette.datastructures import MutableHeaders
from starlette.types import Message, Receive, Scope, Send

from server.middleware.base import HttpMiddleware, before_start

SECURITY_HEADERS = {
    # No inline scripts or styles, so that markup injected through a file name cannot run. Images may come from any
    # host: the bucket can be anywhere.
    "Content-Security-Policy": (
        "default-src 'self'; img-src 'self' data: blob: https: http:; object-src 'none'; base-uri 'none';"
        " form-action 'self'; frame-ancestors 'none'"
    ),
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
    # Pages of other sites cannot embed images, of which they could read the sizes.
    "Cross-Origin-Resource-Policy": "same-origin",
}


class SecurityHeaders(HttpMiddleware):
    """Middleware that adds the security headers that a response does not set itself."""

    async def handle(self, scope: Scope, receive: Receive, send: Send) -> None:
        await self._app(scope, receive, before_start(send, _add_headers))


async def _add_headers(start: Message) -> None:
    headers = MutableHeaders(scope=start)
    for name, value in SECURITY_HEADERS.items():
        headers.setdefault(name, value)
