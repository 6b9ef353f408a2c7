"""The page where a browser shows a token once, and gets a cookie for it."""

import re
from urllib.parse import parse_qs

from starlette.requests import Request
from starlette.responses import RedirectResponse, Response

from server.access import COOKIE, COOKIE_LIFETIME, Tokens
from server.context import app_context
from server.rate_limits import client_of
from server.schemas.errors import Problem

_MAX_BODY = 8192  # bytes
# One slash, so that it is a path, and neither a second nor a backslash behind it, which make it another host's.
_OWN_PATH = re.compile(r"/(?![/\\])[^\x00-\x20\\\x7f]{0,4000}")


async def show_form(request: Request) -> Response:
    """GET /sign-in: the form; where reading needs no token, the gallery."""
    target = _own_path(request.query_params.get("next"))
    if not tokens(request).needed_to_read:
        return RedirectResponse(target, status_code=303)
    return _form(request, target)


async def sign_in(request: Request) -> Response:
    """POST /sign-in: sets the cookie and leads to where the visitor wanted to go."""
    form = await _fields(request)
    target = _own_path(form.get("next"))
    token = form.get("token", "").strip()
    try:
        access = tokens(request).access(token, client=client_of(request.scope)) if token else None
    except Problem as problem:
        return _form(request, target, error=problem.detail, status=problem.status, headers=problem.headers)
    if access is None:
        return _form(request, target, error="This token is not known here.", status=401)
    response = RedirectResponse(target, status_code=303)
    response.set_cookie(
        COOKIE,
        tokens(request).cookie(token, await app_context(request).secret()),
        max_age=COOKIE_LIFETIME,
        secure=_arrived_encrypted(request),
        httponly=True,
        samesite="lax",
    )
    return _not_kept(response)


async def sign_out(request: Request) -> Response:
    """POST /sign-out: takes the cookie back."""
    response = RedirectResponse("/sign-in", status_code=303)
    response.delete_cookie(COOKIE, secure=_arrived_encrypted(request), httponly=True, samesite="lax")
    return _not_kept(response)


def tokens(request: Request) -> Tokens:
    """Return the tokens that the process knows."""
    found = request.app.state.tokens
    assert isinstance(found, Tokens)
    return found


def _form(
    request: Request, target: str, *, error: str | None = None, status: int = 200, headers: dict[str, str] | None = None
) -> Response:
    context = {"next": target, "error": error, "static": request.app.state.assets.address}
    return _not_kept(
        request.app.state.templates.TemplateResponse(
            request, "sign_in.html", context, status_code=status, headers=headers
        )
    )


def _not_kept(response: Response) -> Response:
    response.headers["Cache-Control"] = "no-store"
    return response


async def _fields(request: Request) -> dict[str, str]:
    body = b""
    async for chunk in request.stream():
        body += chunk
        if len(body) > _MAX_BODY:
            raise Problem(413, f"the form has more than {_MAX_BODY:,} bytes")
    return {name: values[0] for name, values in parse_qs(body.decode(errors="replace")).items()}


def _own_path(target: str | None) -> str:
    """Return *target* if it is an address of ours, else that of the gallery: no link leads through here elsewhere."""
    return target if target and _OWN_PATH.fullmatch(target) else "/"


def _arrived_encrypted(request: Request) -> bool:
    # Whoever lies about it gets a cookie that his own browser does not send.
    return "https" in (
        request.scope["scheme"],
        request.headers.get("X-Forwarded-Proto", "").partition(",")[0].strip(),
    )
