"""Who asks: what a request may see and change, decided in one place before any handler runs.

``AuthMiddleware`` runs before all routes and denies by default, so a new route is protected without any code of its
own. The ``Access`` it grants travels with the request; ``server.context`` shows a handler only its collections.
"""

import hashlib
import hmac
import secrets
from collections.abc import Mapping
from dataclasses import dataclass, replace
from urllib.parse import urlencode

from itsdangerous import BadData, URLSafeTimedSerializer
from starlette.datastructures import MutableHeaders
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response
from starlette.routing import Match
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from server.middleware.login_throttle import LoginThrottle
from server.rate_limits import client_of
from server.schemas import errors
from server.schemas.errors import Problem
from server.settings import ServerSettings
from shared.errors import ServiceError

COOKIE = "image_browser"
COOKIE_LIFETIME = 30 * 24 * 3600  # seconds

# What answers everybody, and tells nothing of any image.
OPEN = {"/healthz", "/readyz", "/sign-in", "/sign-out"}
OPEN_FOLDER = "/static/"
# What people look at: they are sent to the sign-in page, while programs are told what is missing.
PAGES = {"/", "/docs"}
# Requests with a body that ask and change nothing. Every other one writes.
QUESTIONS = {"/api/search", "/api/query-images"}
# What speaks of all buckets at once.
OF_ALL_BUCKETS = {"/metrics"}


@dataclass(frozen=True)
class Access:
    """What a request may do: see these *buckets*, all that the server shows where it is None, and change them."""

    buckets: frozenset[str] | None
    writes: bool = False

    def sees(self, bucket: str) -> bool:
        """Whether the bucket exists for this request."""
        return self.buckets is None or bucket in self.buckets


NOBODY = Access(frozenset())
READER = Access(None)
WRITER = Access(None, writes=True)


class Tokens:
    """The tokens of the settings, and what each of them allows."""

    def __init__(self, settings: ServerSettings) -> None:
        self.needed_to_read = settings.read_token is not None or bool(settings.read_tokens)
        self.can_write = settings.api_token is not None
        self._guesses = LoginThrottle()
        self._allowed: dict[bytes, Access] = {}
        for token, buckets in settings.buckets_by_token.items():
            self._allowed[_digest(token)] = Access(buckets)
        for secret, access in ((settings.read_token, READER), (settings.api_token, WRITER)):
            if secret:
                self._allowed[_digest(secret.get_secret_value())] = access

    def access(self, token: str, *, client: str) -> Access | None:
        """Return what *token* allows, None if it is unknown; raise a 429 when *client* has tried too many."""
        self._guesses.check(client)
        digest = _digest(token)
        access = _find(digest, self._allowed)
        if access is None:
            self._guesses.remember(client, digest)
        return access

    def cookie(self, token: str, key: str) -> str:
        """Return the value of the cookie that stands for *token* in a browser, signed with *key*."""
        return str(_signer(key).dumps(_mark(_digest(token), key).hex()))

    def access_of_cookie(self, cookie: str, key: str) -> Access | None:
        """Return what the cookie allows to read; None when it is forged or old, or its token is no longer set."""
        try:
            mark = bytes.fromhex(_signer(key).loads(cookie, max_age=COOKIE_LIFETIME))
        except (BadData, ValueError, TypeError):
            return None
        access = _find(mark, {_mark(digest, key): access for digest, access in self._allowed.items()})
        # A browser sends its cookies on its own, so they never write.
        return replace(access, writes=False) if access else None


def _find(wanted: bytes, allowed: Mapping[bytes, Access]) -> Access | None:
    """Look all of them through, so that the time tells nothing."""
    found = None
    for known, access in allowed.items():
        if secrets.compare_digest(known, wanted):
            found = access
    return found


def _digest(token: str) -> bytes:
    return hashlib.sha256(token.encode()).digest()


def _mark(digest: bytes, key: str) -> bytes:
    """Return what stands for a token in cookies; without the key nobody can find the token by trying."""
    return hmac.digest(key.encode(), digest, "sha256")


def _signer(key: str) -> URLSafeTimedSerializer:
    return URLSafeTimedSerializer(key, salt="sign-in")


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
