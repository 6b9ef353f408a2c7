"""What a token allows: the buckets it can see, and whether it may write."""

import hashlib
import hmac
import secrets
from collections.abc import Mapping
from dataclasses import dataclass, replace

from itsdangerous import BadData, URLSafeTimedSerializer

from server.login_throttle import LoginThrottle
from server.settings import ServerSettings

COOKIE = "image_browser"
COOKIE_LIFETIME = 30 * 24 * 3600  # seconds


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
