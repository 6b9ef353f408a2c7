"""Headers that every answer carries."""

from starlette.types import ASGIApp, Message, Receive, Scope, Send

SECURITY = {
    # No inline script or style at all: what a file name smuggles into a page does not run. Images may come from
    # wherever the bucket is.
    "Content-Security-Policy": (
        "default-src 'self'; img-src 'self' data: blob: https: http:; object-src 'none'; base-uri 'none';"
        " form-action 'self'; frame-ancestors 'none'"
    ),
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
}


_RAW = [(name.lower().encode(), value.encode()) for name, value in SECURITY.items()]


class SecurityHeaders:
    """ASGI middleware that adds the headers that an answer does not have."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return

        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = list(message.get("headers", ()))
                present = {name for name, _ in headers}
                message["headers"] = headers + [header for header in _RAW if header[0] not in present]
            await send(message)

        await self._app(scope, receive, send_with_headers)
