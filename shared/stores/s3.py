"""Buckets in Cloudflare R2, Amazon S3, MinIO or anything else that speaks S3, through boto3."""

import asyncio
import os
import re
import shutil
import socket
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, suppress
from dataclasses import replace
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from functools import lru_cache
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar
from urllib.parse import quote

import boto3.session
import botocore.session
from botocore.awsrequest import AWSPreparedRequest
from botocore.config import Config
from botocore.exceptions import (
    BotoCoreError,
    ClientError,
    ConnectionError,
    HTTPClientError,
    IncompleteReadError,
    SSLError,
)
from botocore.handlers import add_expect_header
from botocore.httpsession import URLLib3Session
from botocore.parsers import ResponseParserError, create_parser
from botocore.utils import get_environ_proxies

from shared.errors import ImageRefused, ObjectExists, ObjectLocked, ObjectMissing, Reason, SettingsError, StoreError
from shared.retry import OBJECT_STORE
from shared.stores.base import StoredObject, check_key
from shared.stores.body import read_pieces
from shared.stores.presign import Signer

if TYPE_CHECKING:
    from mypy_boto3_s3.client import S3Client
    from mypy_boto3_s3.type_defs import CompletedPartTypeDef, GetObjectOutputTypeDef, HeadObjectOutputTypeDef

T = TypeVar("T")

# A larger file travels in parts of this many bytes: R2 wants all but the last alike. 10,000 of them are 80 GiB.
PART_SIZE = 8 << 20
# A presigned address is the same for this many seconds, and works for at least as many more.
ADDRESS_WINDOW = 3600

_DELETE_BATCH = 1000
_SHORT_PATIENCE = 5.0  # seconds, where somebody waits for a message: a wrong address at the start, a failure at the end
_NOT_IN_XML = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\ufffe\uffff]")
_USER_AGENT = "image-browser"
_ERRORS = create_parser("rest-xml")  # type: ignore[no-untyped-call]
_BUCKET = re.compile(r"[a-zA-Z0-9._-]{1,255}")

_TRANSIENT_STATUS = {408, 429, 500, 502, 503, 504}
_TRANSIENT_CODES = {"RequestTimeout", "SlowDown", "InternalError", "ServiceUnavailable", "TooManyRequests"}
# Two conditional writes met: the loser of the race learns the outcome by asking again.
_TRANSIENT_CODES |= {"ConditionalRequestConflict", "OperationAborted"}
_OTHER_REGION = {"AuthorizationHeaderMalformed", "IllegalLocationConstraintException"}
_REFUSED_CODES = {"InvalidAccessKeyId", "SignatureDoesNotMatch", "Unauthorized", "AccessDenied", "InvalidToken"}


def r2_endpoint(account_id: str) -> str:
    """Return the S3 address of a Cloudflare account; its region is ``auto``."""
    if not re.fullmatch(r"[0-9a-zA-Z]+", account_id):
        raise SettingsError(f"R2_ACCOUNT_ID is {account_id!r}: give the account's id, 32 letters and digits")
    return f"https://{account_id}.r2.cloudflarestorage.com"


class S3Store:
    """One bucket of an S3 service; an ObjectStore.

    *concurrency* requests run at once, each in a thread. Transient errors are retried for *retry_timeout* seconds.
    *public_url* is the address of a public bucket, in which ``{bucket}`` and ``{key}`` may stand; without it, addresses
    are presigned.
    """

    def __init__(
        self,
        *,
        endpoint_url: str,
        access_key_id: str,
        secret_access_key: str,
        bucket: str,
        region: str = "auto",
        session_token: str | None = None,
        public_url: str | None = None,
        concurrency: int = 8,
        retry_timeout: float = 45.0,
        timeout: float = 20.0,
    ) -> None:
        if not _BUCKET.fullmatch(bucket):
            raise SettingsError(
                f"{bucket!r} cannot be a bucket's name in S3: use a-z, 0-9, '-' and '.', 3 to 63 of them"
            )
        self.bucket = bucket
        self._endpoint_url = endpoint_url.rstrip("/")
        self._access_key_id = access_key_id
        self._public_url = public_url
        self._retry_timeout = retry_timeout
        self._signer = Signer(self._endpoint_url, region, access_key_id, secret_access_key, session_token)
        # False once a store has said that it cannot write on the condition that a key is free.
        self._conditional_writes = True
        # True once a store has said that the bucket lies in another region than the settings say.
        self._elsewhere = False
        config = Config(  # type: ignore[no-untyped-call]
            # Since 1.36 boto3 adds checksums in a form that R2 refuses, as "Unauthorized".
            request_checksum_calculation="when_required",
            response_checksum_validation="when_required",
            # The signature covers the body, so the store itself finds what was damaged on the way.
            s3={"addressing_style": "path", "payload_signing_enabled": True},
            signature_version="s3v4",
            max_pool_connections=concurrency,
            connect_timeout=min(timeout, 5.0),
            read_timeout=timeout,
            # All second tries are ours: botocore's would multiply them, and give up on an outage after a second.
            retries={"mode": "standard", "total_max_attempts": 1},
            # Together a seventh of what boto3 works on a put: its own is made anew for each request, from all that it
            # knows of this machine; and what is given to it here has been checked.
            user_agent=_USER_AGENT,
            parameter_validation=False,
        )
        try:
            with _CREATION:
                self._client: S3Client = _session().client(  # type: ignore[no-untyped-call]
                    "s3",
                    endpoint_url=self._endpoint_url,
                    region_name=region,
                    aws_access_key_id=access_key_id,
                    aws_secret_access_key=secret_access_key,
                    aws_session_token=session_token,
                    config=config,
                )
        except (BotoCoreError, ValueError) as exc:
            raise SettingsError(f"S3_ENDPOINT_URL is {endpoint_url!r}: cannot make a client for it: {exc}") from exc
        self._http = URLLib3Session(  # type: ignore[no-untyped-call]
            verify=_certificates(),
            proxies=get_environ_proxies(self._endpoint_url),  # type: ignore[no-untyped-call]
            timeout=(config.connect_timeout, config.read_timeout),  # type: ignore[attr-defined]
            max_pool_connections=concurrency,
            # As botocore's clients do: else the kernel keeps the end of a body back until the headers' arrival has been
            # acknowledged, for 40 ms.
            socket_options=[(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)],
        )
        # botocore asks before it sends a body, and waits a second where, as at R2, nobody answers.
        self._client.meta.events.unregister("before-call.s3", add_expect_header)
        self._executor = ThreadPoolExecutor(concurrency, thread_name_prefix="s3-store")

    async def prepare(self) -> None:
        """Make sure that the bucket can be listed. A listing says why not; a HEAD request has no room for a reason."""
        try:
            answer = await self._call(
                lambda: self._client.list_objects_v2(Bucket=self.bucket, MaxKeys=1), retry_timeout=_SHORT_PATIENCE
            )
        except StoreError as exc:
            # Every S3 error has a code; where there is none, botocore puts the status in its place.
            if isinstance(exc.__cause__, ClientError) and _code(exc.__cause__) in {"", str(_status(exc.__cause__))}:
                raise self._not_s3(transient=exc.transient) from exc.__cause__
            raise
        if "Name" not in answer:
            raise self._not_s3()

    async def put(
        self,
        key: str,
        body: bytes | Path,
        *,
        content_type: str,
        cache_control: str,
        sha256: str,
        overwrite: bool = True,
    ) -> None:
        """Store an object. A store that knows no conditional writes is asked first whether the key is free: there, two
        puts at once that may not overwrite can both succeed, and the later one stays.
        """
        self._check_writable(key)
        described: dict[str, Any] = {
            "ContentType": content_type,
            "CacheControl": cache_control,
            "Metadata": {"sha256": sha256},
        }

        def whole(condition: dict[str, Any]) -> Iterator[bytes] | None:
            """Store what fits into one request; return the pieces of what does not."""
            pieces = read_pieces(body, sha256=sha256, size=PART_SIZE)
            first, second = next(pieces, b""), next(pieces, b"")
            if second:
                return chain([first, second], pieces)
            self._put_object(key, first, sha256, described, condition)
            return None

        if parts := await self._write(whole, key, sha256, overwrite=overwrite):
            await self._put_parts(key, parts, described, sha256, overwrite=overwrite)

    async def get(self, key: str) -> bytes:
        def read() -> bytes:
            body: Any = self._client.get_object(Bucket=self.bucket, Key=key)["Body"]
            with closing(body):
                return bytes(body.read())

        self._check_readable(key)
        return await self._call(read, key)

    async def download(self, key: str, target: Path) -> StoredObject:
        def write() -> StoredObject:
            answer = self._client.get_object(Bucket=self.bucket, Key=key)
            body: Any = answer["Body"]
            with closing(body), target.open("wb") as file:
                shutil.copyfileobj(body, file, PART_SIZE)
            return _described(key, answer)

        self._check_readable(key)
        return await self._call(write, key)

    async def head(self, key: str) -> StoredObject:
        self._check_readable(key)
        return _described(key, await self._call(lambda: self._client.head_object(Bucket=self.bucket, Key=key), key))

    async def copy(self, source: str, target: str) -> None:
        """Copy an object inside the bucket; one of more than 5 GiB is refused by S3, and so raises StoreError."""
        self._check_writable(target)
        if source == target:  # which S3 calls an invalid request
            await self.head(source)
            return
        self._check_readable(source)
        await self._call(
            lambda: self._client.copy_object(
                Bucket=self.bucket, Key=target, CopySource={"Bucket": self.bucket, "Key": source}
            ),
            source,
        )

    async def delete(self, keys: Sequence[str]) -> None:
        possible = [key for key in keys if _why_impossible(key) is None]
        for start in range(0, len(possible), _DELETE_BATCH):
            batch = possible[start : start + _DELETE_BATCH]
            await self._call(lambda batch=batch: self._delete_batch(batch))  # type: ignore[misc]

    def _delete_batch(self, keys: Sequence[str]) -> None:
        answer = self._client.delete_objects(
            Bucket=self.bucket, Delete={"Objects": [{"Key": key} for key in keys], "Quiet": True}
        )
        # A refusal of single keys comes in an answer that says 200.
        errors = [error for error in answer.get("Errors", []) if error.get("Code") != "NoSuchKey"]
        if errors:
            first = errors[0]
            message = f"{len(errors)} of {len(keys)} objects in bucket {self.bucket!r} could not be deleted"
            example = f"{first.get('Key')!r}: {first.get('Code')} {first.get('Message', '')}"
            transient = any(error.get("Code") in _TRANSIENT_CODES for error in errors)
            raise StoreError(f"{message}, such as {example}", transient=transient)

    async def list(self, prefix: str = "", *, start_after: str = "") -> AsyncIterator[StoredObject]:
        # boto3 asks for keys in URL encoding, since XML cannot hold all of them, and decodes them.
        position: dict[str, Any] = {"StartAfter": start_after} if start_after else {}
        while True:
            page = await self._call(
                lambda position=position: self._client.list_objects_v2(  # type: ignore[misc]
                    Bucket=self.bucket, Prefix=prefix, **position
                )
            )
            if "Name" not in page:  # else what a network's sign-in page answers would be the end of the list
                raise self._not_s3()
            for entry in page.get("Contents", []):
                yield StoredObject(entry["Key"], entry["Size"], entry["LastModified"], entry["ETag"].strip('"'))
            if not page.get("IsTruncated"):
                return
            position = {"ContinuationToken": page["NextContinuationToken"]}

    def address(self, key: str, *, version: str = "") -> str:
        if self._public_url is None:
            now = int(time.time())
            return self._signer.address(
                self.bucket, key, version, signed_at=now - now % ADDRESS_WINDOW, expires=2 * ADDRESS_WINDOW
            )
        template = self._public_url if "{key}" in self._public_url else f"{self._public_url.rstrip('/')}/{{key}}"
        address = template.replace("{bucket}", quote(self.bucket, safe="")).replace("{key}", quote(key))
        return f"{address}{'&' if '?' in address else '?'}v={quote(version, safe='')}" if version else address

    async def close(self) -> None:
        await asyncio.to_thread(self._executor.shutdown, cancel_futures=True)
        self._client.close()  # type: ignore[no-untyped-call]
        self._http.close()  # type: ignore[no-untyped-call]

    def _put_object(
        self, key: str, body: bytes, sha256: str, described: dict[str, Any], condition: dict[str, Any]
    ) -> None:
        """Do what the client's method of this name does, in half of its time: to upload is to do little else.

        Connections, certificates, proxies and errors are botocore's. What another region answers is left to it.
        """
        if self._elsewhere:
            self._client.put_object(Bucket=self.bucket, Key=key, Body=body, **described, **condition)
            return
        headers = {
            "content-type": described["ContentType"],
            "cache-control": described["CacheControl"],
            "x-amz-meta-sha256": sha256,
        }
        if condition:
            headers["if-none-match"] = condition["IfNoneMatch"]
        address, headers = self._signer.put(self.bucket, key, headers, sha256=sha256)
        headers["user-agent"] = _USER_AGENT
        request = AWSPreparedRequest("PUT", address, headers, body, stream_output=False)  # type: ignore[no-untyped-call]
        answer = self._http.send(request)  # type: ignore[no-untyped-call]
        if answer.status_code < 300:
            return
        received = {"status_code": answer.status_code, "headers": answer.headers, "body": answer.content}
        error = ClientError(_ERRORS.parse(received, None), "PutObject")  # type: ignore[no-untyped-call]
        if answer.status_code < 400 or _code(error) in _OTHER_REGION:
            self._elsewhere = True
            self._put_object(key, body, sha256, described, condition)
        else:
            raise error

    async def _put_parts(
        self, key: str, parts: Iterator[bytes], headers: dict[str, Any], sha256: str, *, overwrite: bool
    ) -> None:
        upload = await self._call(
            lambda: self._client.create_multipart_upload(Bucket=self.bucket, Key=key, **headers), key
        )
        where: dict[str, Any] = {"Bucket": self.bucket, "Key": key, "UploadId": upload["UploadId"]}
        try:
            sent: list[CompletedPartTypeDef] = []
            while part := await self._in_thread(lambda: next(parts, b"")):
                number = len(sent) + 1
                answer = await self._call(
                    lambda part=part, number=number: self._client.upload_part(  # type: ignore[misc]
                        **where, PartNumber=number, Body=part
                    ),
                    key,
                )
                sent.append({"ETag": answer["ETag"], "PartNumber": number})
            await self._write(
                lambda condition: self._client.complete_multipart_upload(
                    **where, MultipartUpload={"Parts": sent}, **condition
                ),
                key,
                sha256,
                overwrite=overwrite,
            )
        except BaseException:
            # What is left is paid for until the store drops it (R2 after seven days).
            with suppress(StoreError):
                abort = self._call(
                    lambda: self._client.abort_multipart_upload(**where), key, retry_timeout=_SHORT_PATIENCE
                )
                await asyncio.shield(abort)
            raise

    async def _write(
        self, request: Callable[[dict[str, Any]], T], key: str, sha256: str, *, overwrite: bool
    ) -> T | None:
        """Send a request that makes the object; with ``overwrite=False`` on the condition that there is none.

        Return what *request* returns, or None where a former try had made it already.
        """
        conditional = not overwrite and self._conditional_writes
        if not overwrite and not conditional and await self._holds(key) is not None:
            raise self._taken(key)
        tries = 0

        def once() -> T:
            nonlocal tries
            tries += 1
            return request({"IfNoneMatch": "*"} if conditional else {})

        try:
            return await self._call(once, key)
        except StoreError as exc:
            code = _code(exc.__cause__)
            if conditional and code == "NotImplemented":
                self._conditional_writes = False
                return await self._write(request, key, sha256, overwrite=overwrite)
            # The first try may have been done although its answer was lost; then the second one finds its own work.
            done_before = tries > 1 and (isinstance(exc, ObjectExists) or code == "NoSuchUpload")
            if done_before and await self._holds(key) == sha256:
                return None
            raise

    async def _holds(self, key: str) -> str | None:
        """Return the SHA-256 that the object has with it, "" if it has none; None if there is no object."""
        try:
            return (await self.head(key)).sha256 or ""
        except ObjectMissing:
            return None

    async def _call(self, request: Callable[[], T], key: str = "", *, retry_timeout: float | None = None) -> T:
        """Return what *request* does in a thread; transient errors are tried again while retry_timeout lasts."""

        def translated() -> T:
            try:
                return request()
            except (BotoCoreError, ClientError, ResponseParserError) as exc:
                raise self._store_error(exc, key) from exc

        policy = replace(OBJECT_STORE, timeout=self._retry_timeout if retry_timeout is None else retry_timeout)
        return await policy.run(self._in_thread, translated)

    async def _in_thread(self, function: Callable[[], T]) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._executor, function)

    def _check_writable(self, key: str) -> None:
        if problem := _why_impossible(key):
            raise problem

    def _check_readable(self, key: str) -> None:
        if problem := _why_impossible(key):
            raise self._missing(key) from problem

    def _store_error(self, exc: Exception, key: str) -> StoreError:
        if isinstance(exc, ClientError):
            return self._refusal(exc, key)
        if isinstance(exc, ResponseParserError):
            return self._not_s3()
        where = f"the object store at {self._endpoint_url}"
        if isinstance(exc, SSLError):
            return StoreError(f"{where} has no certificate that this machine trusts: {exc}", transient=False)
        if isinstance(exc, ConnectionError | HTTPClientError | IncompleteReadError):
            advice = "look at the network, and at S3_ENDPOINT_URL or R2_ACCOUNT_ID"
            return StoreError(f"{where} cannot be reached, or does not answer: {exc}: {advice}", transient=True)
        return StoreError(f"{where} cannot be asked: {exc}", transient=False)

    def _refusal(self, exc: ClientError, key: str) -> StoreError:
        code, status = _code(exc), _status(exc)
        headers = exc.response.get("ResponseMetadata", {}).get("HTTPHeaders", {})
        where = f"the object store at {self._endpoint_url}"
        if code == "NoSuchKey" or (status == 404 and key and code in {"404", "NotFound"}):
            return self._missing(key)
        if code == "PreconditionFailed" or status == 412:
            return self._taken(key)
        if code == "InvalidObjectState":
            return ObjectLocked(
                f"the object {key!r} in bucket {self.bucket!r} lies in an archive (its storage class): restore it first"
            )
        if code == "NoSuchBucket":
            command = f"aws s3 mb s3://{self.bucket} --endpoint-url {self._endpoint_url}"
            remedy = f"create it in the dashboard or with `{command}`"
            return StoreError(f"{where} has no bucket {self.bucket!r}: {remedy}", transient=False)
        if code == "RequestTimeTooSkewed":
            return StoreError(
                f"{where} refuses this machine's clock{_clock_error(headers)}: set it right", transient=False
            )
        if code in _REFUSED_CODES or status in {401, 403}:
            check = (
                "look at R2_ACCESS_KEY_ID and R2_SECRET_ACCESS_KEY (or AWS_*), and whether the key may read and write"
            )
            message = f"{where} refuses access key {self._access_key_id!r} for bucket {self.bucket!r} ({code})"
            message += f" and object {key!r}" if key else ""
            return StoreError(f"{message}: {check} this bucket", transient=False)
        message = exc.response.get("Error", {}).get("Message", "")
        about = f" about {key!r}" if key else ""
        return StoreError(
            f"{where} answers {status} {code}{about} in bucket {self.bucket!r}: {message}",
            transient=status in _TRANSIENT_STATUS or code in _TRANSIENT_CODES,
            retry_after=_retry_after(headers),
        )

    def _missing(self, key: str) -> ObjectMissing:
        return ObjectMissing(f"there is no object {key!r} in bucket {self.bucket!r}")

    def _taken(self, key: str) -> ObjectExists:
        return ObjectExists(f"there is an object {key!r} in bucket {self.bucket!r} already")

    def _not_s3(self, *, transient: bool = False) -> StoreError:
        message = f"what answers at {self._endpoint_url} does not speak S3: look at S3_ENDPOINT_URL or R2_ACCOUNT_ID"
        return StoreError(message, transient=transient)


# Making a client is not safe in threads, unlike using one.
_CREATION = threading.Lock()


@lru_cache(maxsize=1)
def _session() -> boto3.session.Session:
    """Return the one session: it keeps the description of S3, which takes 150 ms to read, for clients at 10 ms each.

    It reads none of the files that the AWS command line keeps: a profile of that name may not even be there.
    """
    ignored = {"profile": (None, None, None, None), "config_file": (None, None, os.devnull, None)}
    core = botocore.session.Session(session_vars=ignored)  # type: ignore[no-untyped-call]
    return boto3.session.Session(botocore_session=core)  # type: ignore[no-untyped-call]


def _certificates() -> str | bool:
    """Return whose certificates are trusted, as boto3's clients find it out: a file's, or the usual ones (True)."""
    return os.environ.get("AWS_CA_BUNDLE") or os.environ.get("REQUESTS_CA_BUNDLE") or True


def _why_impossible(key: str) -> ImageRefused | None:
    try:
        check_key(key)
    except ImageRefused as exc:
        return exc
    if _NOT_IN_XML.search(key):
        detail = f"the key {key!r} holds a control character, which S3 cannot put into its lists: rename the file"
        return ImageRefused(Reason.KEY_INVALID, detail)
    return None


def _described(key: str, answer: "GetObjectOutputTypeDef | HeadObjectOutputTypeDef") -> StoredObject:
    return StoredObject(
        key=key,
        size=answer["ContentLength"],
        modified=answer["LastModified"],
        etag=answer["ETag"].strip('"'),
        sha256=answer["Metadata"].get("sha256"),
        content_type=answer.get("ContentType"),
        cache_control=answer.get("CacheControl"),
    )


def _code(exc: BaseException | None) -> str:
    return str(exc.response.get("Error", {}).get("Code", "")) if isinstance(exc, ClientError) else ""


def _status(exc: ClientError) -> int:
    return int(exc.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0))


def _retry_after(headers: dict[str, str]) -> float | None:
    """Return how many seconds the answer asks to wait, if it says so as a number, as S3 and R2 do."""
    try:
        return float(headers["retry-after"])
    except (KeyError, ValueError):
        return None


def _clock_error(headers: dict[str, str]) -> str:
    try:
        ahead = (datetime.now(UTC) - parsedate_to_datetime(headers["date"])).total_seconds()
    except (KeyError, ValueError, TypeError):
        return ""
    return f", which is {abs(ahead) / 60:.0f} minutes {'ahead of' if ahead > 0 else 'behind'} its own"
