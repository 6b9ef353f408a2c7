"""Base of the middlewares."""

from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable

from starlette.types import ASGIApp, Message, Receive, Scope, Send


class HttpMiddleware(ABC):
    """Middleware for HTTP requests; the server's lifespan events bypass it."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await (self.handle if scope["type"] == "http" else self._app)(scope, receive, send)

    @abstractmethod
    async def handle(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request, or pass it to the application inside."""


def before_start(send: Send, change: Callable[[Message], Awaitable[None]]) -> Send:
    """Return a *send* that first calls *change* with the start of the response, to read or change its headers."""

    async def changed(message: Message) -> None:
        if message["type"] == "http.response.start":
            await change(message)
        await send(message)

    return changed
