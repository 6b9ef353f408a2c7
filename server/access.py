"""Tokens, the cookies that stand for them, and what each allows."""

import hashlib
import hmac
from dataclasses import dataclass, replace

from itsdangerous import BadData, URLSafeTimedSerializer

from server.login_throttle import LoginThrottle
from server.settings import ServerSettings

COOKIE = "image_browser"
COOKIE_LIFETIME = 30 * 24 * 3600  # seconds


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
    """The tokens of the settings and the access that each gives."""

    def __init__(self, settings: ServerSettings) -> None:
        self.needed_to_read = settings.read_token is not None or bool(settings.read_tokens)
        self.can_write = settings.api_token is not None
        self._throttle = LoginThrottle()
        # Tokens are looked up by their digests, so that the response time reveals nothing about a token.
        self._access_by_digest = {
            _digest(token): Access(buckets) for token, buckets in settings.buckets_by_token.items()
        }
        if settings.read_token:
            self._access_by_digest[_digest(settings.read_token.get_secret_value())] = READ_ACCESS
        if settings.api_token:
            self._access_by_digest[_digest(settings.api_token.get_secret_value())] = WRITE_ACCESS

    def access(self, token: str, *, client: str) -> Access | None:
        """Return the access that *token* gives, None if it is wrong; raise a 429 after too many wrong tokens."""
        self._throttle.check(client)
        digest = _digest(token)
        access = self._access_by_digest.get(digest)
        if access is None:
            self._throttle.record(client, digest)
        return access

    def cookie(self, token: str, key: str) -> str:
        """Return a cookie value for *token*, signed with *key*."""
        return str(_signer(key).dumps(_keyed_digest(_digest(token), key)))

    def access_of_cookie(self, cookie: str, key: str) -> Access | None:
        """Return the read access of a cookie; None if it is forged or expired, or its token is no longer set."""
        try:
            signed = _signer(key).loads(cookie, max_age=COOKIE_LIFETIME)
        except BadData:
            return None
        for digest, access in self._access_by_digest.items():
            if _keyed_digest(digest, key) == signed:
                # Browsers send cookies along with requests of other sites, so a cookie never allows writing.
                return replace(access, writes=False)
        return None


def _digest(token: str) -> bytes:
    return hashlib.sha256(token.encode()).digest()


def _keyed_digest(digest: bytes, key: str) -> str:
    """Return the digest for cookies. Without the key a token cannot be found by brute force."""
    return hmac.digest(key.encode(), digest, "sha256").hex()


def _signer(key: str) -> URLSafeTimedSerializer:
    return URLSafeTimedSerializer(key, salt="sign-in")
