"""Errors as clients see them: RFC 9457 problem details."""

from http import HTTPStatus

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from typing_extensions import TypedDict

from shared.errors import ServiceError


class ProblemDocument(TypedDict):
    """What went wrong with a request. ``detail`` names the parameter, its value and what is allowed."""

    type: str
    title: str
    status: int
    detail: str


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
    body = ProblemDocument(type="about:blank", title=title, status=status, detail=detail)
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
        case _:
            return Problem(500, "something went wrong on the server; its log has the details")


async def handle(_request: Request, error: Exception) -> Response:
    """Answer a request of the API that failed."""
    problem = from_exception(error)
    return response(problem.status, problem.detail, problem.headers)
