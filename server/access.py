"""Tokens, the sessions of browsers that stand for them, and what each allows."""

import math
from dataclasses import dataclass
from datetime import timedelta
from uuid import UUID, uuid4

from itsdangerous import BadData, URLSafeTimedSerializer
from starlette.requests import Request

from server.problem import Problem
from server.secret_key import SecretKey
from server.settings import ServerSettings
from shared.db.pool import Connection, Database
from shared.errors import DatabaseError
from shared.sql import api_tokens, sessions, wrong_tokens
from shared.sql.api_tokens import digest_of

COOKIE = "image_browser"
COOKIE_LIFETIME = 30 * 24 * 3600  # seconds
MAX_WRONG_TOKENS = 20  # different ones per client and window
WINDOW = timedelta(minutes=1)


@dataclass(frozen=True)
class Access:
    """Rights of a request: the *buckets* it can see, None for all that the server shows, and whether it can write."""

    buckets: frozenset[str] | None
    writes: bool = False

    def sees(self, bucket: str) -> bool:
        """Return whether the bucket is visible to the request."""
        return self.buckets is None or bucket in self.buckets


NO_ACCESS = Access(frozenset())
READ_ACCESS = Access(None)
WRITE_ACCESS = Access(None, writes=True)


class AccessTokens:
    """The tokens of the settings and of the database, the access that each gives, and the sessions of browsers."""

    def __init__(self, settings: ServerSettings, database: Database, secret_key: SecretKey) -> None:
        self.needed_to_read = settings.read_token is not None or bool(settings.read_tokens)
        self.can_write = settings.api_token is not None
        self._database = database
        self._secret_key = secret_key
        # Tokens are looked up by their digests, so that the response time reveals nothing about a token.
        self._access_by_digest = {
            digest_of(token): Access(buckets) for token, buckets in settings.buckets_by_token.items()
        }
        if settings.read_token:
            self._access_by_digest[digest_of(settings.read_token.get_secret_value())] = READ_ACCESS
        if settings.api_token:
            self._access_by_digest[digest_of(settings.api_token.get_secret_value())] = WRITE_ACCESS

    async def access(self, token: str, *, client: str) -> Access | None:
        """Return the access that *token* gives, None if it is wrong; raise a 429 after too many wrong tokens."""
        digest = digest_of(token)
        try:
            return await self._database.run(self._check, digest, client)
        except DatabaseError:
            if digest in self._access_by_digest:  # /metrics must work while the database does not
                return self._access_by_digest[digest]
            raise

    async def start_session(self, token: str) -> str:
        """Start a session of *token* and return the value of its cookie."""
        session = uuid4()
        lifetime = timedelta(seconds=COOKIE_LIFETIME)
        await self._database.run(sessions.start, session, digest_of(token), lifetime=lifetime)
        return str((await self._signer()).dumps(session.hex))

    async def access_of_session(self, cookie: str) -> Access | None:
        """Return the access of a cookie; None if it is forged, or its session or token has ended."""
        session = await self._session(cookie)
        return await self._database.run(self._find_by_session, session) if session else None

    async def end_session(self, cookie: str) -> None:
        """End the session of a cookie on all servers."""
        if session := await self._session(cookie):
            await self._database.run(sessions.end, session)

    async def _check(self, conn: Connection, digest: bytes, client: str) -> Access | None:
        wrong, wait = await wrong_tokens.count(conn, client, within=WINDOW)
        if wrong >= MAX_WRONG_TOKENS:
            # The right token is refused too, else guessing could continue.
            seconds = max(1, math.ceil(wait.total_seconds()))
            raise Problem(
                429,
                f"{MAX_WRONG_TOKENS} wrong tokens within a minute: try again in {seconds} s",
                headers={"Retry-After": str(seconds)},
            )
        access = await self._find(conn, digest)
        if access is None:
            await wrong_tokens.record(conn, client, digest, within=WINDOW)
        return access

    async def _find_by_session(self, conn: Connection, session: UUID) -> Access | None:
        digest = await sessions.token_digest(conn, session)
        return await self._find(conn, digest) if digest else None

    async def _find(self, conn: Connection, digest: bytes) -> Access | None:
        if digest in self._access_by_digest:
            return self._access_by_digest[digest]
        token = await api_tokens.use(conn, digest)
        if token is None:
            return None
        return Access(frozenset({token.bucket}) if token.bucket else None, token.writes)

    async def _session(self, cookie: str) -> UUID | None:
        """Return the id in a cookie that we have signed."""
        try:
            return UUID((await self._signer()).loads(cookie, max_age=COOKIE_LIFETIME))
        except BadData:
            return None

    async def _signer(self) -> URLSafeTimedSerializer:
        return URLSafeTimedSerializer(await self._secret_key.get(), salt="session")


def is_https(request: Request) -> bool:
    """Return whether the browser uses TLS, according to the server or any proxy."""
    # A client that forges the header loses only rights: its browser will not send the cookie, or its requests fail.
    return "https" in (
        request.scope["scheme"],
        request.headers.get("X-Forwarded-Proto", "").partition(",")[0].strip(),
    )
