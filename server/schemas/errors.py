"""Errors as clients see them: RFC 9457 problem details."""

from http import HTTPStatus

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Match, Route
from typing_extensions import TypedDict

from server.log_config import request_id
from shared.errors import ServiceError, SettingsError


class ProblemDocument(TypedDict):
    """What went wrong with a request (RFC 9457). ``detail`` names the parameter, its value and what is allowed.

    ``request_id`` is what the server's log has of it.
    """

    type: str
    title: str
    status: int
    detail: str
    request_id: str


class Problem(Exception):
    """An answer other than success. *detail* names the parameter, its value and what is allowed."""

    def __init__(self, status: int, detail: str, *, headers: dict[str, str] | None = None) -> None:
        super().__init__(detail)
        self.status = status
        self.detail = detail
        self.headers = headers


def response(status: int, detail: str, headers: dict[str, str] | None = None) -> Response:
    """Return a problem document."""
    title = HTTPStatus(status).phrase
    body = ProblemDocument(type="about:blank", title=title, status=status, detail=detail, request_id=request_id.get())
    return JSONResponse(body, status_code=status, headers=headers, media_type="application/problem+json")


def from_exception(error: Exception) -> Problem:
    """Return what is told of *error*: our own words for what we know, nothing of what we do not."""
    match error:
        case Problem():
            return error
        case HTTPException():
            headers = dict(error.headers) if error.headers else None
            return Problem(error.status_code, error.detail, headers=headers)
        case ServiceError():
            wait = max(1, round(error.retry_after or 1))
            return Problem(503, f"{error}", headers={"Retry-After": str(wait)})
        case SettingsError():
            return Problem(503, f"this server is not set up for that: {error}")
        case _:
            return Problem(500, "something went wrong on the server; its log has the details")


async def handle(request: Request, error: Exception) -> Response:
    """Answer a request that failed."""
    if isinstance(error, HTTPException) and error.status_code == 405:
        return _other_method(request)
    if isinstance(error, HTTPException) and error.status_code == 404:
        error = Problem(404, f"there is nothing at {request.url.path[:100]!r}: /docs describes the API")
    problem = from_exception(error)
    return response(problem.status, problem.detail, problem.headers)


def _other_method(request: Request) -> Response:
    """Answer a method that the path does not have; OPTIONS asks which it has."""
    # Several routes can share a path, and Starlette tells the methods of the first.
    matching = [r for r in request.app.routes if isinstance(r, Route) and r.matches(request.scope)[0] != Match.NONE]
    allowed = ", ".join(sorted({"OPTIONS"}.union(*(route.methods or () for route in matching))))
    if request.method == "OPTIONS":
        return Response(status_code=204, headers={"Allow": allowed})
    return response(
        405, f"{request.method[:20]} is not for {request.url.path[:100]!r}: use {allowed}", {"Allow": allowed}
    )
