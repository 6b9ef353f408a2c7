"""Translation of botocore's exceptions into StoreErrors, with a remedy where there is one."""

from dataclasses import dataclass

from botocore.exceptions import (
    BotoCoreError,
    ClientError,
    ConnectionError,
    HTTPClientError,
    IncompleteReadError,
    SSLError,
)
from botocore.parsers import ResponseParserError

from shared.errors import ImageRefused, ObjectExists, ObjectLocked, ObjectMissing, Reason, StoreError

BOTO_ERRORS = (BotoCoreError, ClientError, ResponseParserError)

TRANSIENT_CODES = {
    *("RequestTimeout", "SlowDown", "InternalError", "ServiceUnavailable", "TooManyRequests"),
    # Two conditional writes raced; a retry tells the loser the outcome.
    *("ConditionalRequestConflict", "OperationAborted"),
}
# Refusals of one key; stores differ in the names that they allow.
KEY_CODES = {
    *("InvalidObjectName", "InvalidURI", "KeyTooLongError"),
    *("XMinioInvalidObjectName", "XMinioParentIsObject", "XMinioObjectExistsAsDirectory"),
}
_TRANSIENT_STATUS = {408, 429, 500, 502, 503, 504}
_ACCESS_CODES = {"InvalidAccessKeyId", "SignatureDoesNotMatch", "Unauthorized", "AccessDenied", "InvalidToken"}


@dataclass(frozen=True)
class S3ErrorTranslator:
    """Translates errors about one bucket."""

    endpoint_url: str
    access_key_id: str
    bucket: str

    def translate(self, exc: Exception, key: str = "") -> StoreError | ImageRefused:
        """Return the error to raise for one of BOTO_ERRORS, about *key* or about the bucket."""
        if isinstance(exc, ClientError):
            return self._translate_response(exc, key)
        if isinstance(exc, ResponseParserError):
            return self.not_s3()
        if isinstance(exc, SSLError):
            message = f"{self._store} has a certificate that this machine does not trust: {exc}"
            return StoreError(message, transient=False)
        if isinstance(exc, ConnectionError | HTTPClientError | IncompleteReadError):
            remedy = "check the network, and S3_ENDPOINT_URL or R2_ACCOUNT_ID"
            return StoreError(f"{self._store} is unreachable or does not answer: {exc}: {remedy}", transient=True)
        return StoreError(f"cannot send a request to {self._store}: {exc}", transient=False)

    def missing(self, key: str) -> ObjectMissing:
        return ObjectMissing(f"no object {key!r} in bucket {self.bucket!r}")

    def exists(self, key: str) -> ObjectExists:
        return ObjectExists(f"object {key!r} already exists in bucket {self.bucket!r}")

    def not_s3(self, *, transient: bool = False) -> StoreError:
        message = f"the service at {self.endpoint_url} does not speak S3: check S3_ENDPOINT_URL or R2_ACCOUNT_ID"
        return StoreError(message, transient=transient)

    @property
    def _store(self) -> str:
        return f"the object store at {self.endpoint_url}"

    def _translate_response(self, exc: ClientError, key: str) -> StoreError | ImageRefused:
        code, status = error_code(exc), http_status(exc)
        if code == "NoSuchKey" or (status == 404 and key and code in {"404", "NotFound"}):
            return self.missing(key)
        if code == "PreconditionFailed" or status == 412:
            return self.exists(key)
        if code == "InvalidObjectState":
            return ObjectLocked(f"object {key!r} in bucket {self.bucket!r} is archived: restore it first")
        if code == "NoSuchBucket":
            command = f"aws s3 mb s3://{self.bucket} --endpoint-url {self.endpoint_url}"
            remedy = f"create it in the dashboard or with `{command}`"
            return StoreError(f"{self._store} has no bucket {self.bucket!r}: {remedy}", transient=False)
        if code == "RequestTimeTooSkewed":
            return StoreError(f"{self._store} rejects this machine's clock: set the clock", transient=False)
        if code in _ACCESS_CODES or status in {401, 403}:
            return self._access_denied(code, key)
        message = exc.response.get("Error", {}).get("Message", "")
        if key and code in KEY_CODES:
            detail = f"{self._store} refuses the key {key!r}: {code} {message}: rename the file"
            return ImageRefused(Reason.KEY_INVALID, detail)
        about = f" about {key!r}" if key else ""
        return StoreError(
            f"{self._store} answered {status} {code}{about} in bucket {self.bucket!r}: {message}",
            transient=status in _TRANSIENT_STATUS or code in TRANSIENT_CODES,
            retry_after=_retry_after(exc),
        )

    def _access_denied(self, code: str, key: str) -> StoreError:
        about = f" and object {key!r}" if key else ""
        return StoreError(
            f"{self._store} rejects access key {self.access_key_id!r} for bucket {self.bucket!r}{about} ({code}): check"
            " R2_ACCESS_KEY_ID and R2_SECRET_ACCESS_KEY (or AWS_*), and that the key may read and write this bucket",
            transient=False,
        )


def error_code(exc: BaseException | None) -> str:
    """Return the S3 error code, or "" for other exceptions."""
    return str(exc.response.get("Error", {}).get("Code", "")) if isinstance(exc, ClientError) else ""


def http_status(exc: ClientError) -> int:
    return int(exc.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0))


def _retry_after(exc: ClientError) -> float | None:
    """Return the seconds in Retry-After, which S3 and R2 send as a number."""
    try:
        return float(exc.response["ResponseMetadata"]["HTTPHeaders"]["retry-after"])
    except (KeyError, ValueError):
        return None
