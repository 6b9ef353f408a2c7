"""Request ids, metrics, log lines, and a 500 for unexpected errors."""

import logging
import re
import secrets
import time

from starlette.datastructures import Headers, MutableHeaders
from starlette.requests import ClientDisconnect
from starlette.types import Message, Receive, Scope, Send

from server import log_config, metrics, rate_limits
from server.middleware.base import HttpMiddleware, before_start
from server.schemas import errors
from shared import timing

log = logging.getLogger("server.access")

# Probes come every few seconds: log them only if they fail.
_QUIET_ROUTES = {"/healthz", "/readyz", "/metrics"}
_METHODS = {"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"}
_VALID_ID = re.compile(r"[A-Za-z0-9._-]{1,64}")
_CLIENT_CLOSED_REQUEST = 499  # nginx's status for a client that disconnects before the response


class RequestLog(HttpMiddleware):
    """Middleware that logs, counts and times requests, and answers unexpected errors with a 500.

    The id of a request is its X-Request-Id, as set by a proxy, or a new one. It is part of the response, of problem
    documents and of every log line of the request.
    """

    async def handle(self, scope: Scope, receive: Receive, send: Send) -> None:
        started = time.perf_counter()
        identifier = _identifier(scope)
        status, first_byte = 0, started

        async def add_headers(start: Message) -> None:
            nonlocal status, first_byte
            status, first_byte = start["status"], time.perf_counter()
            headers = MutableHeaders(scope=start)
            headers["X-Request-Id"] = identifier
            headers["Server-Timing"] = _server_timing(spent | {"total": first_byte - started})

        send = before_start(send, add_headers)
        log_config.request_id.set(identifier)
        rate_limits.client.set(rate_limits.client_of(scope))
        with timing.collect() as spent:
            try:
                await self._app(scope, receive, send)
            except ClientDisconnect:
                log.info("the client disconnected before its request was read")
            except Exception as exc:
                log.exception("unexpected error")
                if status:
                    raise
                await errors.response(errors.problem_of(exc))(scope, receive, send)
            finally:
                total = time.perf_counter() - started
                _record(scope, status or _CLIENT_CLOSED_REQUEST, latency=first_byte - started, total=total)


def _identifier(scope: Scope) -> str:
    given = Headers(scope=scope).get("X-Request-Id", "")
    return given if _VALID_ID.fullmatch(given) else secrets.token_hex(8)


def _server_timing(seconds: dict[str, float]) -> str:
    return ", ".join(f"{name};dur={duration * 1000:.1f}" for name, duration in seconds.items())


def _record(scope: Scope, status: int, *, latency: float, total: float) -> None:
    """Count and log a response. Times are in seconds."""
    # Labels have few values: any client can invent methods and paths.
    method = scope["method"] if scope["method"] in _METHODS else "other"
    route = getattr(scope.get("route"), "path", "unknown")
    metrics.requests.labels(method, route, status).inc()
    metrics.seconds.labels(method, route).observe(latency)
    fields = {"method": method, "route": route, "status": status, "milliseconds": round(total * 1000, 1)}
    level = logging.DEBUG if route in _QUIET_ROUTES and status < 400 else logging.INFO
    log.log(level, "%s %s %d in %.1f ms", method, route, status, total * 1000, extra={"fields": fields})
