"""Authentication: grant each request its access before a handler runs.

``AuthMiddleware`` denies by default, so a new route is protected without code of its own. The ``Access`` travels with
the request; ``server.context`` shows a handler only the collections that it covers.
"""

from urllib.parse import urlencode

from starlette.datastructures import MutableHeaders
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response
from starlette.routing import Match
from starlette.types import Message, Receive, Scope, Send

from server.access import COOKIE, NO_ACCESS, READ_ACCESS, Access, AccessTokens, is_https
from server.middleware.base import HttpMiddleware, before_start
from server.problem import Problem
from server.rate_limits import client_of
from server.schemas import errors
from shared.errors import ServiceError

# Open to all: nothing here reveals anything about an image.
OPEN_PATHS = {"/healthz", "/readyz", "/sign-in", "/sign-out"}
OPEN_PREFIX = "/static/"
# Pages redirect to the sign-in form; other routes return a 401.
PAGES = {"/", "/collections", "/failures", "/docs"}
# POSTs that only read. Every other method than SAFE_METHODS writes.
READ_ONLY_POSTS = {"/api/search", "/api/query-images", "/api/zip", "/api/export"}
# Routes that cover all buckets at once.
ALL_BUCKETS = {"/metrics"}
SAFE_METHODS = {"GET", "HEAD", "OPTIONS"}
_WRITE_TOKEN = "API_TOKEN, or a token of `syncer tokens add NAME --write`"  # nosec B105


class AuthMiddleware(HttpMiddleware):
    """Middleware that rejects requests without the access they need."""

    async def handle(self, scope: Scope, receive: Receive, send: Send) -> None:
        request = Request(scope)
        try:
            request.state.access = await self._authorize(request)
        except (Problem, ServiceError) as exc:
            rejection = await _rejection(request, exc)
            await rejection(scope, receive, send)
            return
        is_private = _tokens(request).needed_to_read and not _is_open(request)
        await self._app(scope, receive, before_start(send, _mark_private) if is_private else send)

    async def _authorize(self, request: Request) -> Access:
        """Return the access of the request; raise a Problem with the reason if it has none."""
        token = _bearer_token(request)
        if token is None and _is_cross_site(request):
            raise Problem(403, "cross-site request rejected")
        if _is_open(request):
            return NO_ACCESS
        granted = await _tokens(request).access(token, client=client_of(request.scope)) if token else None
        if _is_write(request):
            return _authorize_write(request, granted or await _signed_in_access(request), token)
        access = granted or await _anonymous_access(request)
        if access is None:
            raise Problem(401, "reading needs a token: send `Authorization: Bearer TOKEN`", headers=_challenge(token))
        if _path(request) in ALL_BUCKETS and access.buckets is not None:
            raise Problem(403, f"{_path(request)} covers all buckets: use a token for all of them, such as READ_TOKEN")
        return access


def _authorize_write(request: Request, granted: Access | None, token: str | None) -> Access:
    if granted and granted.writes:
        return granted
    if granted and token:
        raise Problem(403, f"this token is for reading: writing needs {_WRITE_TOKEN}")
    if token is None and not _tokens(request).can_write:
        raise Problem(403, "writing is disabled on this server: set API_TOKEN, or run `syncer tokens add NAME --write`")
    raise Problem(401, f"writing needs {_WRITE_TOKEN}: send `Authorization: Bearer TOKEN`", headers=_challenge(token))


async def _anonymous_access(request: Request) -> Access | None:
    """Return the read access of a request without a valid token: by cookie, or because reading is open."""
    if not _tokens(request).needed_to_read:
        return READ_ACCESS
    if cookie := request.cookies.get(COOKIE):
        return await _tokens(request).access_of_session(cookie)
    return None


async def _signed_in_access(request: Request) -> Access | None:
    """Return the access of a cookie, sent by a page of ours: browsers send it along with requests of other sites."""
    cookie = request.cookies.get(COOKIE)
    return await _tokens(request).access_of_session(cookie) if cookie and _is_same_origin(request) else None


def _tokens(request: Request) -> AccessTokens:
    tokens: AccessTokens = request.app.state.context.tokens
    return tokens


async def _rejection(request: Request, error: Exception) -> Response:
    response = await errors.handle(request, error)
    if response.status_code == 401 and _path(request) in PAGES:
        response = RedirectResponse(f"/sign-in?{urlencode({'next': _path_and_query(request)})}", status_code=303)
    response.headers["Cache-Control"] = "no-store"
    return response


def _path(request: Request) -> str:
    """Return the path that routing uses. ``request.url`` also depends on the Host header, which a client controls."""
    path: str = request.scope["path"]
    return path


def _path_and_query(request: Request) -> str:
    query = request.scope["query_string"].decode("latin-1")
    return f"{_path(request)}?{query}" if query else _path(request)


def _is_open(request: Request) -> bool:
    return _path(request) in OPEN_PATHS or _path(request).startswith(OPEN_PREFIX)


def _is_write(request: Request) -> bool:
    """Return whether the request changes anything. A request without a route does not."""
    if request.method in SAFE_METHODS or _path(request) in READ_ONLY_POSTS:
        return False
    return any(route.matches(request.scope)[0] is Match.FULL for route in request.app.routes)


def _bearer_token(request: Request) -> str | None:
    scheme, _, token = request.headers.get("Authorization", "").partition(" ")
    return token.strip() or None if scheme.lower() == "bearer" else None


def _challenge(token: str | None) -> dict[str, str]:
    return {"WWW-Authenticate": 'Bearer realm="Image Browser"' + (', error="invalid_token"' if token else "")}


def _is_cross_site(request: Request) -> bool:
    """Return whether a page of another site sent the request. Links from other sites are fine, forms are not."""
    if request.method in SAFE_METHODS:
        return False
    # Over plain HTTP browsers send Sec-Fetch-Site only to loopback; otherwise the origin has to be ours.
    if fetch_site := request.headers.get("Sec-Fetch-Site"):
        return fetch_site not in {"same-origin", "none"}
    scheme, _, host = request.headers.get("Origin", "").partition("://")
    if not scheme:
        return False
    # Anyone on the network can answer for our host over plain HTTP.
    return host != request.headers.get("Host") or (scheme == "http" and is_https(request))


def _is_same_origin(request: Request) -> bool:
    """Return whether the headers prove that a page of ours sent the request. Only browsers send them."""
    if fetch_site := request.headers.get("Sec-Fetch-Site"):
        return fetch_site == "same-origin"
    origin = request.headers.get("Origin")
    return origin is not None and not _is_cross_site(request)


async def _mark_private(start: Message) -> None:
    """Mark a response as private, so that shared caches do not store it."""
    headers = MutableHeaders(scope=start)
    directives = [part.strip() for part in headers.get("Cache-Control", "no-cache").split(",")]
    if "no-store" not in directives:
        others = [part for part in directives if part not in {"public", "private"}]
        headers["Cache-Control"] = ", ".join(["private", *others])
