"""Presigned GET addresses, by AWS Signature Version 4 with query parameters.

See https://docs.aws.amazon.com/AmazonS3/latest/API/sigv4-query-string-auth.html. botocore's presigner reads the clock
itself, so browsers could not cache its addresses, and takes half a millisecond for each.
"""

import hashlib
import hmac
import time
from functools import lru_cache
from urllib.parse import quote, urlsplit

_ALGORITHM = "AWS4-HMAC-SHA256"


class Presigner:
    """Presigns addresses of objects at one endpoint, with the bucket in the path."""

    def __init__(
        self, endpoint_url: str, region: str, access_key_id: str, secret_access_key: str, session_token: str | None
    ) -> None:
        endpoint = urlsplit(endpoint_url)
        # As browsers send it: in lower case, and without the scheme's default port.
        name = endpoint.hostname or ""
        self._host = f"[{name}]" if ":" in name else name
        if endpoint.port not in {None, {"http": 80, "https": 443}.get(endpoint.scheme)}:
            self._host += f":{endpoint.port}"
        self._origin, self._path = f"{endpoint.scheme}://{self._host}", endpoint.path
        self._region = region
        self._access_key_id = access_key_id
        self._session_token = session_token
        self._signing_key = lru_cache(maxsize=2)(lambda day: _derive_key(secret_access_key, day, region))

    def address(self, bucket: str, key: str, version: str, *, signed_at: int, expires: int) -> str:
        """Return the address of an object, valid from *signed_at* (Unix time) for *expires* seconds.

        *version* becomes a parameter that S3 ignores, like all that begin with ``x-``, and browser caches do not.
        """
        timestamp = time.strftime("%Y%m%dT%H%M%SZ", time.gmtime(signed_at))
        scope = f"{timestamp[:8]}/{self._region}/s3/aws4_request"
        parameters = {
            "X-Amz-Algorithm": _ALGORITHM,
            "X-Amz-Credential": f"{self._access_key_id}/{scope}",
            "X-Amz-Date": timestamp,
            "X-Amz-Expires": str(expires),
            "X-Amz-SignedHeaders": "host",
        }
        if self._session_token:
            parameters["X-Amz-Security-Token"] = self._session_token
        if version:
            parameters["x-version"] = version
        query = "&".join(f"{name}={quote(value, safe='-_.~')}" for name, value in sorted(parameters.items()))
        path = f"{self._path}/{bucket}/{quote(key, safe='/-_.~')}"
        request = f"GET\n{path}\n{query}\nhost:{self._host}\n\nhost\nUNSIGNED-PAYLOAD"
        to_sign = f"{_ALGORITHM}\n{timestamp}\n{scope}\n{hashlib.sha256(request.encode()).hexdigest()}"
        signature = hmac.new(self._signing_key(timestamp[:8]), to_sign.encode(), hashlib.sha256).hexdigest()
        return f"{self._origin}{path}?{query}&X-Amz-Signature={signature}"


def _derive_key(secret_access_key: str, day: str, region: str) -> bytes:
    key = f"AWS4{secret_access_key}".encode()
    for part in (day, region, "s3", "aws4_request"):
        key = hmac.digest(key, part.encode(), "sha256")
    return key
