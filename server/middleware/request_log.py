"""What surrounds every request: its id, its figures, its line in the log, and an answer when it fails unforeseen."""

import logging
import re
import secrets
import time

from starlette.requests import ClientDisconnect
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from server import log_config, metrics, rate_limits
from server.schemas import errors
from shared import timing

log = logging.getLogger("server.access")

# What machines ask every few seconds is not worth a line.
_QUIET = {"/healthz", "/readyz", "/metrics"}
_METHODS = {"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"}
_SANE_ID = re.compile(rb"[A-Za-z0-9._-]{1,64}")


class RequestLog:
    """ASGI middleware, around all that can fail.

    A request's id is the X-Request-Id that it comes with, as a proxy may set it, or a new one; it stands in the answer,
    in problem documents and in every line of the log that the request causes.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        started = time.perf_counter()
        identifier = _identifier(scope)
        status, began = 0, started

        async def send_with_headers(message: Message) -> None:
            nonlocal status, began
            if message["type"] == "http.response.start":
                status, began = message["status"], time.perf_counter()
                message["headers"] = [
                    *message.get("headers", ()),
                    (b"x-request-id", identifier.encode()),
                    (b"server-timing", _server_timing(spent, began - started)),
                ]
            await send(message)

        log_config.request_id.set(identifier)
        rate_limits.client.set(rate_limits.client_of(scope))
        with timing.collect() as spent:
            try:
                await self._app(scope, receive, send_with_headers)
            except ClientDisconnect:
                log.info("the client went away before its request was read")
            except Exception as exc:
                log.exception("a request failed unforeseen")
                if status:
                    raise
                await errors.response(errors.problem_of(exc))(scope, receive, send_with_headers)
            finally:
                _record(scope, status or 499, until_answer=began - started, total=time.perf_counter() - started)


def _identifier(scope: Scope) -> str:
    given: bytes = next((value for name, value in scope["headers"] if name == b"x-request-id"), b"")
    return given.decode() if _SANE_ID.fullmatch(given) else secrets.token_hex(8)


def _server_timing(spent: dict[str, float], total: float) -> bytes:
    return ", ".join(f"{name};dur={s * 1000:.1f}" for name, s in [*spent.items(), ("total", total)]).encode()


def _record(scope: Scope, status: int, *, until_answer: float, total: float) -> None:
    """Count and log an answer. 499 is that of a client that did not wait for one."""
    method = scope["method"] if scope["method"] in _METHODS else "other"
    # The template of the route, since addresses are without number.
    route = getattr(scope.get("route"), "path", "unknown")
    metrics.requests.labels(method, route, status).inc()
    metrics.seconds.labels(method, route).observe(until_answer)
    fields = {"method": method, "route": route, "status": status, "milliseconds": round(total * 1000, 1)}
    level = logging.DEBUG if route in _QUIET and status < 400 else logging.INFO
    log.log(level, "%s %s %d in %.1f ms", method, route, status, total * 1000, extra={"fields": fields})
