"""AWS Signature Version 4, for the two requests that are made most: addresses for browsers, and uploads.

The method is that of Amazon's "Signature Calculations for the Authorization Header" and "Authenticating Requests: Using
Query Parameters". botocore's signers read the clock themselves, so that no address would be the same a second later,
and work on an upload as long as it takes to send it.
"""

import hashlib
import hmac
import time
from collections.abc import Mapping
from functools import lru_cache
from urllib.parse import quote, urlsplit

_ALGORITHM = "AWS4-HMAC-SHA256"


class Signer:
    """Signs requests about the objects of one service, whose buckets are part of the path."""

    def __init__(
        self, endpoint_url: str, region: str, access_key_id: str, secret_access_key: str, session_token: str | None
    ) -> None:
        endpoint = urlsplit(endpoint_url)
        # As browsers name it: in small letters, and with a port only where it is not the usual one.
        usual = {"http": 80, "https": 443}.get(endpoint.scheme)
        name = endpoint.hostname or ""
        self._host = f"[{name}]" if ":" in name else name
        if endpoint.port not in {None, usual}:
            self._host += f":{endpoint.port}"
        self._origin, self._path = f"{endpoint.scheme}://{self._host}", endpoint.path
        self._region = region
        self._access_key_id = access_key_id
        self._session_token = session_token
        self._day_key = lru_cache(maxsize=2)(lambda day: _signing_key(secret_access_key, day, region))

    def address(self, bucket: str, key: str, version: str, *, signed_at: int, expires: int) -> str:
        """Return an address that works from *signed_at* (Unix time) for *expires* seconds, without a request.

        *version* becomes a parameter that S3 ignores, as it does all that begin with ``x-``, and browsers do not.
        """
        moment = _moment(signed_at)
        parameters = {
            "X-Amz-Algorithm": _ALGORITHM,
            "X-Amz-Credential": f"{self._access_key_id}/{self._scope(moment)}",
            "X-Amz-Date": moment,
            "X-Amz-Expires": str(expires),
            "X-Amz-SignedHeaders": "host",
        }
        if self._session_token:
            parameters["X-Amz-Security-Token"] = self._session_token
        if version:
            parameters["x-version"] = version
        query = "&".join(f"{name}={quote(value, safe='-_.~')}" for name, value in sorted(parameters.items()))
        path = self._path_of(bucket, key)
        request = f"GET\n{path}\n{query}\nhost:{self._host}\n\nhost\nUNSIGNED-PAYLOAD"
        return f"{self._origin}{path}?{query}&X-Amz-Signature={self._signature(request, moment)}"

    def put(self, bucket: str, key: str, headers: Mapping[str, str], *, sha256: str) -> tuple[str, dict[str, str]]:
        """Return the address and all headers of a request that stores a body with this *sha256* (hex), from now on.

        The body is part of what is signed, so that the service itself finds what was damaged on the way. The names of
        *headers* are in small letters, their values ASCII without spaces at either end.
        """
        moment = _moment(time.time())
        sent = {**headers, "host": self._host, "x-amz-content-sha256": sha256, "x-amz-date": moment}
        if self._session_token:
            sent["x-amz-security-token"] = self._session_token
        names = sorted(sent)
        lines = "".join(f"{name}:{sent[name]}\n" for name in names)
        signed = ";".join(names)
        path = self._path_of(bucket, key)
        signature = self._signature(f"PUT\n{path}\n\n{lines}\n{signed}\n{sha256}", moment)
        sent["authorization"] = (
            f"{_ALGORITHM} Credential={self._access_key_id}/{self._scope(moment)},"
            f" SignedHeaders={signed}, Signature={signature}"
        )
        return f"{self._origin}{path}", sent

    def _path_of(self, bucket: str, key: str) -> str:
        return f"{self._path}/{bucket}/{quote(key, safe='/-_.~')}"

    def _scope(self, moment: str) -> str:
        return f"{moment[:8]}/{self._region}/s3/aws4_request"

    def _signature(self, request: str, moment: str) -> str:
        to_sign = f"{_ALGORITHM}\n{moment}\n{self._scope(moment)}\n{hashlib.sha256(request.encode()).hexdigest()}"
        return hmac.new(self._day_key(moment[:8]), to_sign.encode(), hashlib.sha256).hexdigest()


def _moment(seconds: float) -> str:
    return time.strftime("%Y%m%dT%H%M%SZ", time.gmtime(seconds))


def _signing_key(secret_access_key: str, day: str, region: str) -> bytes:
    signing_key = f"AWS4{secret_access_key}".encode()
    for word in (day, region, "s3", "aws4_request"):
        signing_key = hmac.digest(signing_key, word.encode(), "sha256")
    return signing_key
