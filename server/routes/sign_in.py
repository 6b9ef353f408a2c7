"""Sign-in page: a browser sends a token once and gets a cookie for it."""

import re
from urllib.parse import parse_qs

from starlette.requests import Request
from starlette.responses import RedirectResponse, Response

from server import pages, request_body
from server.access import COOKIE, COOKIE_LIFETIME, is_https
from server.context import app_context
from server.problem import Problem
from server.rate_limits import client_of
from server.request_body import BodyLimit

FORM = BodyLimit("the form", max_bytes=8192)
# A path of this server. A second slash or a backslash after the first would lead to another host.
_LOCAL_PATH = re.compile(r"/(?![/\\])[^\x00-\x20\\\x7f]{0,4000}")


async def show_form(request: Request) -> Response:
    """GET /sign-in: the form; if no token allows more than none, a redirect to the gallery."""
    target = _local_path(request.query_params.get("next"))
    tokens = app_context(request).tokens
    if not tokens.needed_to_read and not tokens.can_write:
        return RedirectResponse(target, status_code=303)
    return _form(request, target)


async def sign_in(request: Request) -> Response:
    """POST /sign-in: set the cookie and redirect to the page of the form's `next`."""
    body = await request_body.read(request, FORM)
    fields = {name: values[0] for name, values in parse_qs(body.decode(errors="replace")).items()}
    target = _local_path(fields.get("next"))
    token = fields.get("token", "").strip()
    tokens = app_context(request).tokens
    try:
        access = await tokens.access(token, client=client_of(request.scope)) if token else None
    except Problem as problem:
        return _form(request, target, problem)
    if access is None:
        return _form(request, target, Problem(401, "Wrong token"))
    response = RedirectResponse(target, status_code=303)
    response.set_cookie(
        COOKIE,
        await tokens.start_session(token),
        max_age=COOKIE_LIFETIME,
        secure=is_https(request),
        httponly=True,
        samesite="lax",
    )
    return _uncached(response)


async def sign_out(request: Request) -> Response:
    """POST /sign-out: end the session on all servers and delete the cookie."""
    await app_context(request).tokens.end_session(request.cookies.get(COOKIE, ""))
    response = RedirectResponse("/sign-in", status_code=303)
    response.delete_cookie(COOKIE, secure=is_https(request), httponly=True, samesite="lax")
    return _uncached(response)


def _form(request: Request, target: str, problem: Problem | None = None) -> Response:
    """Return the form, with *problem* as its error message."""
    status, detail, headers = (problem.status, problem.detail, problem.headers) if problem else (200, None, None)
    variables = {"next": target, "error": detail, "status": status}
    response = pages.render(request, "sign_in.html", variables, status_code=status, headers=headers)
    return _uncached(response)


def _uncached(response: Response) -> Response:
    response.headers["Cache-Control"] = "no-store"
    return response


def _local_path(target: str | None) -> str:
    """Return *target* if it is a path of this server, else the gallery's: no link redirects to another site."""
    return target if target and _LOCAL_PATH.fullmatch(target) else "/"
