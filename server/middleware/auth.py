"""Who asks: what a request may see and change, decided in one place before any handler runs.

``AuthMiddleware`` runs before all routes and denies by default, so a new route is protected without any code of its
own. The ``Access`` it grants travels with the request; ``server.context`` shows a handler only its collections.
"""

from urllib.parse import urlencode

from starlette.datastructures import MutableHeaders
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response
from starlette.routing import Match
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from server.access import COOKIE, NOBODY, READER, Access, Tokens
from server.rate_limits import client_of
from server.schemas import errors
from server.schemas.errors import Problem
from shared.errors import ServiceError

# What answers everybody, and tells nothing of any image.
OPEN = {"/healthz", "/readyz", "/sign-in", "/sign-out"}
OPEN_FOLDER = "/static/"
# What people look at: they are sent to the sign-in page, while programs are told what is missing.
PAGES = {"/", "/docs"}
# Requests with a body that ask and change nothing. Every other one writes.
QUESTIONS = {"/api/search", "/api/query-images"}
# What speaks of all buckets at once.
OF_ALL_BUCKETS = {"/metrics"}


class AuthMiddleware:
    """ASGI middleware that lets through what may pass, and tells everybody else what is missing."""

    def __init__(self, app: ASGIApp, tokens: Tokens) -> None:
        self._app = app
        self._tokens = tokens

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        request = Request(scope)
        try:
            request.state.access = await self._admitted(request)
        except (Problem, ServiceError) as exc:
            refusal = await _refusal(request, exc)
            await refusal(scope, receive, send)
            return
        keep_private = self._tokens.needed_to_read and not _is_open(request)
        await self._app(scope, receive, _private(send) if keep_private else send)

    async def _admitted(self, request: Request) -> Access:
        """Return what the request may do; raise the Problem that says why it may not pass."""
        bearer = _bearer(request)
        if bearer is None and _another_site_sent(request):
            raise Problem(403, "a page of another site made the browser send this: nothing was done")
        if _is_open(request):
            return NOBODY
        allowed = self._tokens.access(bearer, client=client_of(request.scope)) if bearer else None
        if _writes(request):
            return self._writer(allowed, bearer)
        access = allowed or await self._reader(request)
        if access is None:
            raise Problem(401, "reading needs a token: send `Authorization: Bearer TOKEN`", headers=_challenge(bearer))
        if _path(request) in OF_ALL_BUCKETS and access.buckets is not None:
            raise Problem(403, f"{_path(request)} speaks of all buckets: READ_TOKEN opens it")
        return access

    def _writer(self, allowed: Access | None, bearer: str | None) -> Access:
        if not self._tokens.can_write:
            raise Problem(
                403, "this server takes no writes: set API_TOKEN, and send it as `Authorization: Bearer TOKEN`"
            )
        if allowed is None:
            raise Problem(
                401, "writing needs API_TOKEN: send `Authorization: Bearer TOKEN`", headers=_challenge(bearer)
            )
        if not allowed.writes:
            raise Problem(403, "this token is for reading: writing needs API_TOKEN")
        return allowed

    async def _reader(self, request: Request) -> Access | None:
        """Return what a request without a known token may read."""
        if not self._tokens.needed_to_read:
            return READER
        if cookie := request.cookies.get(COOKIE):
            return self._tokens.access_of_cookie(cookie, await request.app.state.services.secret())
        return None


async def _refusal(request: Request, error: Exception) -> Response:
    refusal = await errors.handle(request, error)
    if refusal.status_code == 401 and _path(request) in PAGES:
        refusal = RedirectResponse(f"/sign-in?{urlencode({'next': _address(request)})}", status_code=303)
    refusal.headers["Cache-Control"] = "no-store"
    return refusal


def _path(request: Request) -> str:
    """Return the path that the routes go by. That of ``request.url`` is read out of the Host header too."""
    path: str = request.scope["path"]
    return path


def _address(request: Request) -> str:
    query = request.scope["query_string"].decode("latin-1")
    return f"{_path(request)}?{query}" if query else _path(request)


def _is_open(request: Request) -> bool:
    return _path(request) in OPEN or _path(request).startswith(OPEN_FOLDER)


def _writes(request: Request) -> bool:
    """Whether the request would change something; one that no route takes changes nothing."""
    if request.method in {"GET", "HEAD", "OPTIONS"} or _path(request) in QUESTIONS:
        return False
    return any(route.matches(request.scope)[0] is Match.FULL for route in request.app.routes)


def _bearer(request: Request) -> str | None:
    scheme, _, token = request.headers.get("Authorization", "").partition(" ")
    return token.strip() or None if scheme.lower() == "bearer" else None


def _challenge(bearer: str | None) -> dict[str, str]:
    return {"WWW-Authenticate": 'Bearer realm="Image Browser"' + (', error="invalid_token"' if bearer else "")}


def _another_site_sent(request: Request) -> bool:
    """Whether a browser sent the request on behalf of another site's page, which a link may do and a form may not."""
    if request.method in {"GET", "HEAD", "OPTIONS"}:
        return False
    # Browsers tell it themselves, but over plain HTTP only to this machine; else the origin has to be our own.
    if fetched_by := request.headers.get("Sec-Fetch-Site"):
        return fetched_by not in {"same-origin", "none"}
    origin = request.headers.get("Origin")
    return origin is not None and origin.partition("://")[2] != request.headers.get("Host")


def _private(send: Send) -> Send:
    """Return *send* for answers that are one reader's own: no cache on the way may keep them for others."""

    async def send_private(message: Message) -> None:
        if message["type"] == "http.response.start":
            headers = MutableHeaders(raw=message["headers"])
            wanted = [part.strip() for part in headers.get("Cache-Control", "no-cache").split(",")]
            if "no-store" not in wanted:
                kept = [part for part in wanted if part not in {"public", "private"}]
                headers["Cache-Control"] = ", ".join(["private", *kept])
        await send(message)

    return send_private
