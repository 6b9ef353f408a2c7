"""Buckets in Cloudflare R2, Amazon S3, MinIO or any other S3 service, through boto3."""

import asyncio
import os
import re
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, suppress
from dataclasses import dataclass, field, replace
from functools import lru_cache
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any, ParamSpec, TypeVar
from urllib.parse import quote

import boto3.session
import botocore.session
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError
from botocore.handlers import add_expect_header

from shared.errors import ImageRefused, ObjectExists, ObjectMissing, Reason, SettingsError, StoreError
from shared.retry import OBJECT_STORE
from shared.stores.base import StoredObject, check_key, is_valid_key
from shared.stores.body import gunzip, read_pieces
from shared.stores.presign import Presigner
from shared.stores.s3_errors import BOTO_ERRORS, KEY_CODES, TRANSIENT_CODES, S3ErrorTranslator, error_code, http_status

if TYPE_CHECKING:
    from mypy_boto3_s3.client import S3Client
    from mypy_boto3_s3.type_defs import (
        CompletedPartTypeDef,
        CopySourceTypeDef,
        GetObjectOutputTypeDef,
        HeadObjectOutputTypeDef,
    )

P = ParamSpec("P")
T = TypeVar("T")

# Larger files are uploaded in parts of this size. R2 requires parts of equal size; S3 allows 10,000 of them, 80 GiB.
PART_SIZE = 8 << 20
# A presigned address stays the same for this many seconds, and is valid for at least as many more.
ADDRESS_WINDOW = 3600

_DELETE_BATCH = 1000  # the maximum of S3
_SHORT_RETRY_TIMEOUT = 5.0  # seconds, at startup and when cleaning up after a failure
_BUCKET = re.compile(r"[a-zA-Z0-9._-]{1,255}")
_NOT_IN_XML = re.compile("[\x01-\x08\x0b\x0c\x0e-\x1f\ufffe\uffff]")


def r2_endpoint(account_id: str) -> str:
    """Return the S3 endpoint of a Cloudflare account; its region is ``auto``."""
    return f"https://{account_id}.r2.cloudflarestorage.com"


@dataclass(frozen=True)
class S3Options:
    """Endpoint, credentials and limits of an S3Store.

    *concurrency* requests run at once, each in a thread. Transient errors are retried for *retry_timeout* seconds; a
    request times out after *timeout* seconds without data. *public_url* is the address of a public bucket and may
    contain ``{bucket}`` and ``{key}``; without it, addresses are presigned.
    """

    endpoint_url: str
    access_key_id: str
    secret_access_key: str = field(repr=False)
    region: str = "auto"
    session_token: str | None = field(default=None, repr=False)
    public_url: str | None = None
    concurrency: int = 8
    retry_timeout: float = 45.0
    timeout: float = 20.0


class S3Store:
    """One bucket of an S3 service; an ObjectStore."""

    def __init__(self, bucket: str, options: S3Options) -> None:
        if not _BUCKET.fullmatch(bucket):
            raise SettingsError(f"{bucket!r} is not a valid S3 bucket name: use 3 to 63 of a-z, 0-9, '-' and '.'")
        self.bucket = bucket
        endpoint_url = options.endpoint_url.rstrip("/")
        self._public_url = options.public_url
        self._retry_policy = replace(OBJECT_STORE, timeout=options.retry_timeout)
        self._errors = S3ErrorTranslator(endpoint_url, options.access_key_id, bucket)
        self._presigner = Presigner(
            endpoint_url, options.region, options.access_key_id, options.secret_access_key, options.session_token
        )
        # Becomes False when the store turns out not to support If-None-Match.
        self._conditional_writes = True
        self._client = _make_client(options)
        self._executor = ThreadPoolExecutor(options.concurrency, thread_name_prefix="s3-store")

    async def prepare(self, *, create: bool = True) -> None:
        """Check that the bucket can be listed. Unlike HEAD, a failed listing has a body with the reason."""
        try:
            response = await self._retry_briefly("", self._client.list_objects_v2, Bucket=self.bucket, MaxKeys=1)
        except StoreError as exc:
            # Every S3 error has a code; botocore substitutes the HTTP status if it is missing.
            cause = exc.__cause__
            if isinstance(cause, ClientError) and error_code(cause) in {"", str(http_status(cause))}:
                raise self._errors.not_s3(transient=exc.transient) from cause
            raise
        if "Name" not in response:
            raise self._errors.not_s3()

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
        """Store an object.

        If the store does not support conditional writes, ``overwrite=False`` checks for the key first. Two such puts at
        once can then both succeed, and the later one wins.
        """
        check_key(key)
        attributes: dict[str, Any] = {
            "ContentType": content_type,
            "CacheControl": cache_control,
            "Metadata": {"sha256": sha256},
        }

        def put_small(condition: dict[str, Any]) -> Iterator[bytes] | None:
            """Store a body of at most one part; return the parts of a larger one."""
            parts = read_pieces(body, sha256=sha256, size=PART_SIZE)
            first, second = next(parts, b""), next(parts, b"")
            if second:
                # S3 repeats the key in its response, which botocore then cannot parse (botocore issue 3496).
                if _NOT_IN_XML.search(key):
                    limit = f"larger than {PART_SIZE >> 20} MiB, too large for a name with control characters"
                    raise ImageRefused(Reason.KEY_INVALID, f"{key!r} is {limit}: rename the file")
                return chain([first, second], parts)
            self._client.put_object(Bucket=self.bucket, Key=key, Body=first, **attributes, **condition)
            return None

        if parts := await self._write(put_small, key, sha256, overwrite=overwrite):
            await self._put_multipart(key, parts, attributes, sha256, overwrite=overwrite)

    async def get(self, key: str) -> bytes:
        def read() -> bytes:
            return b"".join(_content(key, self._client.get_object(Bucket=self.bucket, Key=key)))

        self._check_readable(key)
        return await self._call(key, read)

    async def download(self, key: str, target: Path) -> StoredObject:
        def write() -> StoredObject:
            response = self._client.get_object(Bucket=self.bucket, Key=key)
            with target.open("wb") as file:
                file.writelines(_content(key, response))
            return _stored_object(key, response)

        self._check_readable(key)
        return await self._call(key, write)

    async def head(self, key: str) -> StoredObject:
        self._check_readable(key)
        return _stored_object(key, await self._call(key, self._client.head_object, Bucket=self.bucket, Key=key))

    async def copy(self, source: str, target: str) -> None:
        """Copy an object inside the bucket; raise StoreError for more than 5 GiB, which S3 refuses."""
        check_key(target)
        if source == target:  # an invalid request in S3
            await self.head(source)
            return
        self._check_readable(source)
        original: CopySourceTypeDef = {"Bucket": self.bucket, "Key": source}
        await self._call(source, self._client.copy_object, Bucket=self.bucket, Key=target, CopySource=original)

    async def delete(self, keys: Sequence[str]) -> None:
        possible = [key for key in keys if is_valid_key(key)]
        in_xml = [key for key in possible if not _NOT_IN_XML.search(key)]
        for start in range(0, len(in_xml), _DELETE_BATCH):
            await self._call("", self._delete_batch, in_xml[start : start + _DELETE_BATCH])
        for key in set(possible).difference(in_xml):
            # A store that refuses the key has no such object.
            with suppress(ObjectMissing, ImageRefused):
                await self._call(key, self._client.delete_object, Bucket=self.bucket, Key=key)

    def _delete_batch(self, keys: Sequence[str]) -> None:
        response = self._client.delete_objects(
            Bucket=self.bucket, Delete={"Objects": [{"Key": key} for key in keys], "Quiet": True}
        )
        # The response has status 200 even if single keys were refused.
        errors = [error for error in response.get("Errors", []) if error.get("Code") not in {"NoSuchKey", *KEY_CODES}]
        if errors:
            first = errors[0]
            message = f"failed to delete {len(errors)} of {len(keys)} objects in bucket {self.bucket!r}"
            example = f"{first.get('Key')!r}: {first.get('Code')} {first.get('Message', '')}"
            transient = any(error.get("Code") in TRANSIENT_CODES for error in errors)
            raise StoreError(f"{message}, for example {example}", transient=transient)

    async def list(self, prefix: str = "", *, start_after: str = "") -> AsyncIterator[StoredObject]:
        # boto3 requests URL-encoded keys, since XML cannot contain all characters, and decodes them.
        position: dict[str, Any] = {"StartAfter": start_after} if start_after else {}
        while True:
            page = await self._call("", self._client.list_objects_v2, Bucket=self.bucket, Prefix=prefix, **position)
            if "Name" not in page:  # a captive portal's page would otherwise look like the end of the list
                raise self._errors.not_s3()
            for entry in page.get("Contents", []):
                yield StoredObject(entry["Key"], entry["Size"], entry["LastModified"], entry["ETag"].strip('"'))
            if not page.get("IsTruncated"):
                return
            position = {"ContinuationToken": page["NextContinuationToken"]}

    def address(self, key: str, *, version: str = "") -> str:
        if self._public_url is None:
            now = int(time.time())
            signed_at = now - now % ADDRESS_WINDOW
            return self._presigner.address(self.bucket, key, version, signed_at=signed_at, expires=2 * ADDRESS_WINDOW)
        template = self._public_url if "{key}" in self._public_url else f"{self._public_url.rstrip('/')}/{{key}}"
        address = template.replace("{bucket}", quote(self.bucket, safe="")).replace("{key}", quote(key))
        return f"{address}{'&' if '?' in address else '?'}v={quote(version, safe='')}" if version else address

    async def close(self) -> None:
        await asyncio.to_thread(self._executor.shutdown, cancel_futures=True)
        self._client.close()  # type: ignore[no-untyped-call]

    async def _put_multipart(
        self, key: str, parts: Iterator[bytes], attributes: dict[str, Any], sha256: str, *, overwrite: bool
    ) -> None:
        response = await self._call(
            key, self._client.create_multipart_upload, Bucket=self.bucket, Key=key, **attributes
        )
        upload: dict[str, Any] = {"Bucket": self.bucket, "Key": key, "UploadId": response["UploadId"]}
        try:
            uploaded = await self._upload_parts(key, parts, upload)
            await self._write(
                lambda condition: self._client.complete_multipart_upload(
                    **upload, MultipartUpload={"Parts": uploaded}, **condition
                ),
                key,
                sha256,
                overwrite=overwrite,
            )
        except BaseException:
            # Parts left behind are billed until the store drops them (R2 after seven days).
            with suppress(StoreError):
                await asyncio.shield(self._retry_briefly(key, self._client.abort_multipart_upload, **upload))
            raise

    async def _upload_parts(
        self, key: str, parts: Iterator[bytes], upload: dict[str, Any]
    ) -> "Sequence[CompletedPartTypeDef]":
        uploaded: list[CompletedPartTypeDef] = []
        while part := await self._in_thread(next, parts, b""):
            number = len(uploaded) + 1
            response = await self._call(key, self._client.upload_part, **upload, PartNumber=number, Body=part)
            uploaded.append({"ETag": response["ETag"], "PartNumber": number})
        return uploaded

    async def _write(
        self, request: Callable[[dict[str, Any]], T], key: str, sha256: str, *, overwrite: bool
    ) -> T | None:
        """Send a request that creates the object, with ``overwrite=False`` only if the key is free.

        Return the result of *request*, or None if an earlier attempt succeeded but its response was lost.
        """
        conditional = not overwrite and self._conditional_writes
        if not overwrite and not conditional and await self._stored_sha256(key) is not None:
            raise self._errors.exists(key)
        attempts = 0

        def attempt() -> T:
            nonlocal attempts
            attempts += 1
            return request({"IfNoneMatch": "*"} if conditional else {})

        try:
            return await self._call(key, attempt)
        except StoreError as exc:
            code = error_code(exc.__cause__)
            if conditional and code == "NotImplemented":
                self._conditional_writes = False
                return await self._write(request, key, sha256, overwrite=overwrite)
            # The first attempt may have succeeded without us seeing the response; a retry then finds its object.
            maybe_ours = attempts > 1 and (isinstance(exc, ObjectExists) or code == "NoSuchUpload")
            if maybe_ours and await self._stored_sha256(key) == sha256:
                return None
            raise

    async def _stored_sha256(self, key: str) -> str | None:
        """Return the SHA-256 in the object's metadata, "" if it has none, or None if there is no object."""
        try:
            return (await self.head(key)).sha256 or ""
        except ObjectMissing:
            return None

    async def _call(self, key: str, request: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> T:
        """Return ``request(*args, **kwargs)``, run in a thread and retried after transient errors.

        Errors name *key*, or the bucket if it is empty.
        """
        return await self._retry_policy.run(self._translated, key, request, *args, **kwargs)

    async def _retry_briefly(self, key: str, request: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> T:
        policy = replace(self._retry_policy, timeout=_SHORT_RETRY_TIMEOUT)
        return await policy.run(self._translated, key, request, *args, **kwargs)

    async def _translated(self, key: str, request: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> T:
        try:
            return await self._in_thread(request, *args, **kwargs)
        except BOTO_ERRORS as exc:
            raise self._errors.translate(exc, key) from exc

    async def _in_thread(self, function: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._executor, lambda: function(*args, **kwargs))

    def _check_readable(self, key: str) -> None:
        if not is_valid_key(key):
            raise self._errors.missing(key)


_client_lock = threading.Lock()  # creating a client is not thread-safe, unlike using one


def _make_client(options: S3Options) -> "S3Client":
    config = Config(  # type: ignore[no-untyped-call]
        # Since 1.36 boto3 adds checksums in a form that R2 rejects, as "Unauthorized".
        request_checksum_calculation="when_required",
        response_checksum_validation="when_required",
        # With the body in the signature, the store detects data damaged in transit.
        s3={"addressing_style": "path", "payload_signing_enabled": True},
        signature_version="s3v4",
        max_pool_connections=options.concurrency,
        connect_timeout=min(options.timeout, 5.0),
        read_timeout=options.timeout,
        # No retries by botocore: they would multiply ours, and give up on an outage after a second.
        retries={"mode": "standard", "total_max_attempts": 1},
        # Both save processor time, together a seventh of a put: boto3 would rebuild its own user agent for each
        # request, and validate parameters that we checked.
        user_agent="image-browser",
        parameter_validation=False,
    )
    try:
        with _client_lock:
            client: S3Client = _session().client(  # type: ignore[no-untyped-call]
                "s3",
                endpoint_url=options.endpoint_url.rstrip("/"),
                region_name=options.region,
                aws_access_key_id=options.access_key_id,
                aws_secret_access_key=options.secret_access_key,
                aws_session_token=options.session_token,
                config=config,
            )
    except (BotoCoreError, ValueError) as exc:
        raise SettingsError(f"S3_ENDPOINT_URL is {options.endpoint_url!r}: {exc}") from exc
    # botocore sends `Expect: 100-continue`, and waits a second for stores that do not answer it, such as R2.
    client.meta.events.unregister("before-call.s3", add_expect_header)
    return client


@lru_cache(maxsize=1)
def _session() -> boto3.session.Session:
    """Return the shared session. It caches the S3 service model, which takes 150 ms to load; a client takes 10 ms.

    It ignores the files of the AWS command line, which may be invalid or lack the profile named by AWS_PROFILE.
    """
    ignored = {
        "profile": (None, None, None, None),
        "config_file": (None, None, os.devnull, None),
        "credentials_file": (None, None, os.devnull, None),
    }
    core = botocore.session.Session(session_vars=ignored)  # type: ignore[no-untyped-call]
    return boto3.session.Session(botocore_session=core)  # type: ignore[no-untyped-call]


def _content(key: str, response: "GetObjectOutputTypeDef") -> Iterator[bytes]:
    """Yield the object's content in pieces and close the response; undo ``Content-Encoding: gzip``."""
    body: Any = response["Body"]
    with closing(body):
        if response.get("ContentEncoding") == "gzip":
            yield from gunzip(key, body, size=PART_SIZE)
        else:
            yield from iter(lambda: body.read(PART_SIZE), b"")


def _stored_object(key: str, response: "GetObjectOutputTypeDef | HeadObjectOutputTypeDef") -> StoredObject:
    return StoredObject(
        key=key,
        size=response["ContentLength"],
        modified=response["LastModified"],
        etag=response["ETag"].strip('"'),
        sha256=response["Metadata"].get("sha256"),
        content_type=response.get("ContentType"),
        cache_control=response.get("CacheControl"),
    )
