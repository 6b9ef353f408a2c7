"""Rejection of requests for host names that are not this server's."""

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Receive, Scope, Send

from server.problem import Problem
from server.schemas import errors
from shared.allowed_hosts import ListeningSettings

# Probes address a machine or a container by whatever name it has there.
_PROBES = {"/healthz", "/readyz"}


class HostCheck:
    """Middleware that rejects requests whose ``Host`` is not in ALLOWED_HOSTS."""

    def __init__(self, app: ASGIApp, settings: ListeningSettings) -> None:
        self._app = app
        self._settings = settings

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and scope["path"] not in _PROBES:
            host = Headers(scope=scope).get("Host", "")
            if not self._settings.answers_to(host):
                detail = f"this server does not answer to the host {host[:100]!r}: add its name to ALLOWED_HOSTS"
                await errors.response(Problem(421, detail))(scope, receive, send)
                return
        await self._app(scope, receive, send)
