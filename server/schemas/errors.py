"""Error responses: problem details (RFC 9457), and the statuses of exceptions."""

import logging
from http import HTTPStatus

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Match, Route
from typing_extensions import TypedDict

from server import pages
from server.log_config import request_id
from server.problem import Problem
from shared.errors import DatabaseError, ImageRefused, Reason, ServiceError, SettingsError

log = logging.getLogger(__name__)

HANDLED = (Problem, HTTPException, ServiceError, ImageRefused, SettingsError)
_STATUS_OF_REFUSAL = {
    Reason.EMPTY: 400,
    Reason.KEY_INVALID: 400,
    Reason.KEY_TAKEN: 409,
    Reason.TOO_LARGE: 413,
    Reason.NOT_AN_IMAGE: 415,
    Reason.UNSUPPORTED: 415,
}


class ProblemDocument(TypedDict):
    """An error (RFC 9457). ``detail`` names the parameter, its value and the allowed values.

    ``request_id`` identifies the lines of the request in the server's log.
    """

    type: str
    title: str
    status: int
    detail: str
    request_id: str


def response(problem: Problem) -> Response:
    """Return *problem* as a problem document."""
    body = ProblemDocument(
        type="about:blank",
        title=HTTPStatus(problem.status).phrase,
        status=problem.status,
        detail=problem.detail,
        request_id=request_id.get(),
    )
    return JSONResponse(
        body, status_code=problem.status, headers=problem.headers, media_type="application/problem+json"
    )


def problem_of(error: Exception) -> Problem:
    """Return the problem to report for *error*. An unexpected error reveals nothing of its message.

    Nor does one of the database, whose message names hosts and roles; it is logged.
    """
    match error:
        case Problem():
            return error
        case HTTPException():
            headers = dict(error.headers) if error.headers else None
            return Problem(error.status_code, error.detail, headers=headers)
        case ServiceError():
            seconds, detail = max(1, round(error.retry_after or 1)), str(error)
            if isinstance(error, DatabaseError):
                log.warning("%s", error)
                detail = "the database is unavailable; the server's log has the reason"
            return Problem(503, detail, headers={"Retry-After": str(seconds)})
        case ImageRefused():
            return Problem(_STATUS_OF_REFUSAL.get(error.reason, 422), error.detail)
        case SettingsError():
            return Problem(503, f"the server is not configured for this: {error}")
        case _:
            return Problem(500, "internal error; the server's log has the details")


async def handle(request: Request, error: Exception) -> Response:
    """Exception handler: return the error response for *error*, as a page if a browser has asked for one."""
    path = request.url.path[:100]
    if isinstance(error, HTTPException) and error.status_code == 405:
        return _method_not_allowed(request, path)
    if isinstance(error, HTTPException) and error.status_code == 404:
        error = Problem(404, f"nothing at {path!r}: /docs describes the API")
    problem = problem_of(error)
    if "text/html" in request.headers.get("accept", "") and not path.startswith("/api/"):
        variables = {"status": problem.status, "detail": problem.detail}
        return pages.render(request, "error.html", variables, status_code=problem.status, headers=problem.headers)
    return response(problem)


def _method_not_allowed(request: Request, path: str) -> Response:
    """Return a 405, or for OPTIONS an empty response, with the methods of the path."""
    # Several routes can share a path, and Starlette names the methods of the first one only.
    matching = [r for r in request.app.routes if isinstance(r, Route) and r.matches(request.scope)[0] != Match.NONE]
    allowed = ", ".join(sorted({"OPTIONS"}.union(*(route.methods or () for route in matching))))
    if request.method == "OPTIONS":
        return Response(status_code=204, headers={"Allow": allowed})
    detail = f"{request.method[:20]} is not allowed for {path!r}: use {allowed}"
    return response(Problem(405, detail, headers={"Allow": allowed}))
