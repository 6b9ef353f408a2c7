"""Behaviour of S3 alone: the requests it sends, retries after faults, multipart uploads, settings."""

import asyncio
import hashlib
import http.client
import io
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from urllib.parse import urlsplit

import botocore.awsrequest
import botocore.httpsession
import pytest
import urllib3

from shared.errors import ImageRefused, ObjectExists, Reason, SettingsError, StoreError
from shared.retry import RetryPolicy
from shared.stores.base import CACHE_IMAGE, StoredObject
from shared.stores.s3 import PART_SIZE, S3Store, _session, r2_endpoint
from tests.fakes.s3 import Fault, FaultyProxy, Request, S3Server, s3_store
from tests.helpers.stored_objects import list_keys, put

BODY = b"pixels"
SHA256 = hashlib.sha256(BODY).hexdigest()

FAULTS = {
    "500": Fault("status", 500),
    "502 with HTML": Fault("status", 502, body="<html><body>Bad gateway</body></html>"),
    "503": Fault("status", 503, "SlowDown"),
    "429": Fault("status", 429, "TooManyRequests", headers={"Retry-After": "0.1"}),
    "400 after a stalled body": Fault("status", 400, "RequestTimeout"),
    "reset": Fault("reset"),
    "lost response": Fault("lost"),
    "half a response": Fault("half"),
    "hang": Fault("hang", seconds=3.0),
}


@pytest.fixture(autouse=True)
def short_backoff(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("shared.stores.s3.OBJECT_STORE", RetryPolicy(first_wait=0.02, max_wait=0.2, timeout=45.0))


@pytest.fixture
async def store(s3: S3Server, proxy: FaultyProxy) -> AsyncIterator[S3Store]:
    s3.make_bucket("photos")
    store = s3_store(proxy.url, "photos", retry_timeout=20, timeout=1.5)
    await store.delete([stored.key async for stored in store.list()])
    proxy.clear()
    yield store
    await store.close()


# --- requests ---


async def test_bodies_are_sent_in_the_only_form_that_r2_accepts(monkeypatch: pytest.MonkeyPatch, large: Path) -> None:
    # boto3 uses the form that R2 rejects only over HTTPS, so intercept HTTPS requests.
    requests: list[botocore.awsrequest.AWSPreparedRequest] = []

    def respond(_: object, request: botocore.awsrequest.AWSPreparedRequest) -> botocore.awsrequest.AWSResponse:
        requests.append(request)
        body = b"<Result><UploadId>1</UploadId></Result>" if request.method == "POST" else b""
        raw = urllib3.HTTPResponse(io.BytesIO(body), preload_content=False)
        return botocore.awsrequest.AWSResponse(request.url, 200, {"ETag": "1"}, raw)

    monkeypatch.setattr(botocore.httpsession.URLLib3Session, "send", respond)
    store = s3_store("https://nowhere.invalid", "photos")
    await put(store, "a.jpg")
    await put(store, "large.jpg", large)
    await store.close()
    uploads = [request for request in requests if request.method == "PUT"]
    assert len(uploads) > 2
    for request in uploads:
        headers = {
            name.lower(): value.decode() if isinstance(value, bytes) else value
            for name, value in request.headers.items()
        }
        content = request.body if isinstance(request.body, bytes) else request.body.getvalue()
        assert content
        assert headers["x-amz-content-sha256"] == hashlib.sha256(content).hexdigest()
        assert not {"expect", "content-encoding", "transfer-encoding", "x-amz-trailer"} & headers.keys()
        assert not any("checksum" in name or "crc" in name for name in headers)


async def test_a_bucket_in_another_region_is_found(store: S3Store, proxy: FaultyProxy) -> None:
    redirect = "<Error><Code>AuthorizationHeaderMalformed</Code><Region>eu-west-1</Region></Error>"
    proxy.fail_next(Fault("status", 400, body=redirect), "put")
    await put(store, "a.jpg", overwrite=False)
    assert await store.get("a.jpg") == BODY
    assert "eu-west-1" in [request for request in proxy.requests if request.kind == "put"][-1].headers["authorization"]


async def test_a_put_carries_the_attributes_of_the_object(store: S3Store, proxy: FaultyProxy) -> None:
    await put(store, "a.jpg")
    headers = proxy.requests[0].headers
    assert headers["content-type"] == "image/jpeg"
    assert headers["cache-control"] == CACHE_IMAGE
    assert headers["x-amz-meta-sha256"] == SHA256
    assert "if-none-match" not in headers
    await put(store, "b.jpg", overwrite=False)
    assert proxy.requests[1].headers["if-none-match"] == "*"


async def test_each_call_sends_one_request(store: S3Store, proxy: FaultyProxy, tmp_path: Path) -> None:
    photo = tmp_path / "photo.jpg"
    photo.write_bytes(BODY)
    await put(store, "a.jpg", photo)
    await put(store, "b.jpg", overwrite=False)
    await store.get("a.jpg")
    await store.head("a.jpg")
    await store.copy("a.jpg", "c.jpg")
    assert await list_keys(store) == ["a.jpg", "b.jpg", "c.jpg"]
    await store.delete(["a.jpg", "b.jpg"])
    store.address("a.jpg")
    assert proxy.counts == {"put": 2, "get": 1, "head": 1, "copy": 1, "list": 1, "delete": 1}


async def test_keys_are_deleted_in_batches_of_a_thousand(store: S3Store, proxy: FaultyProxy) -> None:
    await store.delete([f"{number}.jpg" for number in range(2001)])
    assert proxy.counts == {"delete": 3}


async def test_a_listing_fetches_pages_on_demand(store: S3Store, proxy: FaultyProxy) -> None:
    for number in range(25):
        await put(store, f"{number:02} +&ä.jpg")
    proxy.clear()
    listing = store.list()
    assert [(await anext(listing)).key for _ in range(10)] == [f"{number:02} +&ä.jpg" for number in range(10)]
    assert proxy.counts == {"list": 1}
    assert len([stored async for stored in listing]) == 15
    assert proxy.counts == {"list": 3}


async def test_the_connection_pool_holds_as_many_connections_as_there_are_threads(
    s3: S3Server, proxy: FaultyProxy
) -> None:
    s3.make_bucket("photos")
    store = s3_store(proxy.url, "photos", concurrency=12)
    assert store._client.meta.config.max_pool_connections == 12
    await asyncio.gather(*(put(store, f"{number}.jpg") for number in range(40)))
    await store.close()
    assert proxy.counts == {"put": 40}


# --- faults ---

# Each call, and the keys in the bucket afterwards.
CALLS: dict[str, tuple[Callable[[S3Store], Awaitable[object]], list[str]]] = {
    "put": (lambda store: put(store, "new.jpg"), ["new.jpg", "old.jpg"]),
    "put without overwriting": (lambda store: put(store, "new.jpg", overwrite=False), ["new.jpg", "old.jpg"]),
    "get": (lambda store: store.get("old.jpg"), ["old.jpg"]),
    "head": (lambda store: store.head("old.jpg"), ["old.jpg"]),
    "copy": (lambda store: store.copy("old.jpg", "copy.jpg"), ["copy.jpg", "old.jpg"]),
    "delete": (lambda store: store.delete(["old.jpg"]), []),
    "list": (list_keys, ["old.jpg"]),
}


@pytest.mark.parametrize("fault", FAULTS.values(), ids=FAULTS.keys())
@pytest.mark.parametrize(("call", "remaining"), CALLS.values(), ids=CALLS.keys())
async def test_transient_errors_are_retried(
    store: S3Store,
    proxy: FaultyProxy,
    call: Callable[[S3Store], Awaitable[object]],
    remaining: list[str],
    fault: Fault,
) -> None:
    await put(store, "old.jpg")
    proxy.clear()
    proxy.fail_next(fault)
    result = await call(store)
    assert proxy.requests[0].faulted
    assert len(proxy.requests) <= 3
    if isinstance(result, StoredObject):
        assert (result.size, result.sha256) == (len(BODY), SHA256)
    elif result is not None:
        assert result in (BODY, remaining)
    assert await list_keys(store) == remaining


async def test_concurrent_puts_survive_an_outage(store: S3Store, proxy: FaultyProxy) -> None:
    proxy.fail_for(1.0, Fault("reset"))
    await asyncio.gather(*(put(store, f"{number}.jpg") for number in range(8)))
    proxy.rule = lambda request: None
    assert len(await list_keys(store)) == 8


async def test_the_last_error_is_raised_when_the_retry_timeout_is_over(s3: S3Server, proxy: FaultyProxy) -> None:
    store = s3_store(proxy.url, "photos", retry_timeout=0.5)
    proxy.rule = lambda request: Fault("status", 503, "SlowDown")
    with pytest.raises(StoreError, match="SlowDown") as error:
        await put(store, "a.jpg")
    await store.close()
    assert error.value.transient
    assert isinstance(error.value.__cause__, Exception)


async def test_a_retry_after_beyond_the_retry_timeout_is_passed_on(store: S3Store, proxy: FaultyProxy) -> None:
    proxy.rule = lambda request: Fault("status", 503, "SlowDown", headers={"Retry-After": "3600"})
    with pytest.raises(StoreError) as error:
        await store.get("a.jpg")
    assert (error.value.retry_after, proxy.counts) == (3600, {"get": 1})


async def test_permanent_errors_are_not_retried(store: S3Store, proxy: FaultyProxy) -> None:
    proxy.rule = lambda request: Fault("status", 400, "InvalidRequest")
    with pytest.raises(StoreError, match="InvalidRequest") as error:
        await store.copy("a.jpg", "b.jpg")
    assert not error.value.transient
    assert proxy.counts == {"copy": 1}


async def test_a_truncated_download_starts_again(store: S3Store, proxy: FaultyProxy, tmp_path: Path) -> None:
    await put(store, "a.jpg")
    proxy.fail_next(Fault("half"), "get", times=3)
    await store.download("a.jpg", tmp_path / "a.jpg")
    assert (tmp_path / "a.jpg").read_bytes() == BODY


async def test_a_conditional_put_leaves_a_foreign_object_alone_after_a_lost_response(
    store: S3Store, proxy: FaultyProxy
) -> None:
    await put(store, "a.jpg", b"foreign")
    proxy.fail_next(Fault("lost"), "put")
    with pytest.raises(ObjectExists):
        await put(store, "a.jpg", overwrite=False)
    assert await store.get("a.jpg") == b"foreign"


async def test_the_loser_of_two_conditional_puts_retries(store: S3Store, proxy: FaultyProxy) -> None:
    proxy.fail_next(Fault("status", 409, "ConditionalRequestConflict"))
    await put(store, "a.jpg", overwrite=False)
    assert await store.get("a.jpg") == BODY


async def test_a_request_waits_for_a_restarting_store(s3: S3Server) -> None:
    s3.make_bucket("photos")
    proxy = FaultyProxy(s3.url).start()
    store = s3_store(proxy.url, "photos")
    await put(store, "a.jpg")
    proxy.stop()
    pending = asyncio.create_task(store.get("a.jpg"))
    await asyncio.sleep(0.5)
    assert not pending.done()
    proxy.start()
    assert await pending == BODY
    proxy.stop()
    await store.close()


async def test_without_conditional_writes_the_key_is_checked_first(store: S3Store, proxy: FaultyProxy) -> None:
    def reject_conditions(request: Request) -> Fault | None:
        return Fault("status", 501, "NotImplemented") if "if-none-match" in request.headers else None

    proxy.rule = reject_conditions
    await put(store, "a.jpg", overwrite=False)
    with pytest.raises(ObjectExists):
        await put(store, "a.jpg", b"second", overwrite=False)
    assert await store.get("a.jpg") == BODY
    assert proxy.counts == {"put": 2, "head": 2, "get": 1}


async def test_keys_that_could_not_be_deleted_are_reported(store: S3Store, proxy: FaultyProxy) -> None:
    error_of_one = "<Key>b.jpg</Key><Code>AccessDenied</Code><Message>not yours</Message>"
    body = f"<DeleteResult><Error>{error_of_one}</Error></DeleteResult>"
    proxy.fail_next(Fault("status", 200, body=body))
    with pytest.raises(StoreError, match=r"1 of 2.*'b\.jpg': AccessDenied not yours") as error:
        await store.delete(["a.jpg", "b.jpg"])
    assert not error.value.transient


async def test_a_key_that_the_store_refuses_is_refused_alone(store: S3Store, proxy: FaultyProxy) -> None:
    proxy.fail_next(Fault("status", 400, "XMinioInvalidObjectName"))
    with pytest.raises(ImageRefused, match=r"'a//b\.jpg': XMinioInvalidObjectName .*: rename the file") as refused:
        await put(store, "a//b.jpg")
    assert (refused.value.reason, refused.value.final) == (Reason.KEY_INVALID, True)
    body = "<DeleteResult><Error><Key>a//b.jpg</Key><Code>XMinioInvalidObjectName</Code></Error></DeleteResult>"
    proxy.fail_next(Fault("status", 200, body=body))
    await store.delete(["a//b.jpg"])
    proxy.fail_next(Fault("status", 400, "XMinioInvalidObjectName"))
    await store.delete(["a\x01b.jpg"])


async def test_deletions_with_transient_errors_are_retried(store: S3Store, proxy: FaultyProxy) -> None:
    await put(store, "a.jpg")
    body = "<DeleteResult><Error><Key>a.jpg</Key><Code>InternalError</Code></Error></DeleteResult>"
    proxy.fail_next(Fault("status", 200, body=body))
    await store.delete(["a.jpg"])
    proxy.rule = lambda request: None
    assert await list_keys(store) == []


# --- multipart uploads ---


@pytest.fixture
def large(tmp_path: Path) -> Path:
    path = tmp_path / "large.tif"
    path.write_bytes(b"".join(bytes([number]) * 1_000_003 for number in range(20)))
    return path


@pytest.mark.parametrize("overwrite", [True, False])
async def test_a_large_file_is_uploaded_in_equal_parts(
    s3: S3Server, proxy: FaultyProxy, large: Path, overwrite: bool
) -> None:
    s3.make_bucket("large")
    store = s3_store(proxy.url, "large")
    await store.delete(["large.tif"])
    proxy.clear()
    proxy.fail_next(Fault("reset"), "part")
    await put(store, "large.tif", large, overwrite=overwrite)
    assert await store.get("large.tif") == large.read_bytes()
    stored = await store.head("large.tif")
    assert stored.sha256 == hashlib.sha256(large.read_bytes()).hexdigest()
    assert (stored.content_type, stored.cache_control) == ("image/jpeg", CACHE_IMAGE)
    sizes = [int(request.headers["content-length"]) for request in proxy.requests if request.kind == "part"]
    assert sizes == [PART_SIZE, PART_SIZE, PART_SIZE, 20 * 1_000_003 - 2 * PART_SIZE]
    completions = [request for request in proxy.requests if request.kind == "end_parts"]
    assert [request.headers.get("if-none-match") for request in completions] == [None if overwrite else "*"]
    await store.close()


async def test_a_large_file_under_a_name_that_xml_cannot_represent_is_refused(store: S3Store, large: Path) -> None:
    with pytest.raises(ImageRefused, match=r"'a\\x01\.tif' is larger than 8 MiB.*: rename the file"):
        await put(store, "a\x01.tif", large)


async def test_a_failed_large_upload_leaves_no_parts(store: S3Store, proxy: FaultyProxy, large: Path) -> None:
    proxy.fail_next(Fault("status", 403, "AccessDenied"), "part")
    with pytest.raises(StoreError, match="AccessDenied"):
        await put(store, "large.tif", large)
    assert proxy.counts == {"start_parts": 1, "part": 1, "drop_parts": 1}
    assert await list_keys(store) == []


async def test_a_large_file_that_changed_is_not_stored(store: S3Store, proxy: FaultyProxy, large: Path) -> None:
    with pytest.raises(ImageRefused) as refused:
        await put(store, "large.tif", large, sha256="0" * 64)
    assert refused.value.reason is Reason.CHANGED
    assert proxy.counts["drop_parts"] == 1
    assert await list_keys(store) == []


async def test_a_large_upload_recognises_its_own_object_after_a_lost_response(
    store: S3Store, proxy: FaultyProxy, large: Path
) -> None:
    proxy.fail_next(Fault("lost"), "end_parts")
    await put(store, "large.tif", large, overwrite=False)
    assert (await store.head("large.tif")).size == large.stat().st_size


# --- addresses and settings ---


def fetch(address: str) -> tuple[int, bytes]:
    parts = urlsplit(address)
    connection = http.client.HTTPConnection(parts.netloc, timeout=10)
    try:
        connection.request("GET", f"{parts.path}?{parts.query}")
        response = connection.getresponse()
        return response.status, response.read()
    finally:
        connection.close()


async def test_an_object_can_be_fetched_from_its_address(store: S3Store) -> None:
    for key in ["a.jpg", "Grüße aus/Köln +&=?#%20.jpg", "\x01\x1b[31m\r.jpg"]:
        await put(store, key)
        assert fetch(store.address(key, version="abc")) == (200, BODY)


def test_an_r2_account_has_its_own_endpoint_and_the_region_auto() -> None:
    endpoint = "https://0123456789abcdef.r2.cloudflarestorage.com"
    assert r2_endpoint("0123456789abcdef") == endpoint
    store = s3_store(endpoint, "photos")
    assert store._client.meta.region_name == "auto"
    assert store._client.meta.endpoint_url == endpoint
    assert store.address("a.jpg").startswith(f"{endpoint}/photos/a.jpg?")


@pytest.mark.parametrize("bucket", ["", "My Photos", "a/b", "ü"])
def test_an_invalid_bucket_name_is_refused_at_once(bucket: str) -> None:
    with pytest.raises(SettingsError, match="not a valid S3 bucket name"):
        s3_store("https://store.example", bucket)


def test_an_invalid_endpoint_is_refused_at_once() -> None:
    with pytest.raises(SettingsError, match="S3_ENDPOINT_URL is 'store.example'"):
        s3_store("store.example", "photos")


def test_the_files_of_the_aws_command_line_are_not_read(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "config").write_text("[default\nnot a configuration")
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "config"))
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "config"))
    monkeypatch.setenv("AWS_PROFILE", "missing-profile")
    _session.cache_clear()  # the session would read them
    s3_store("https://store.example", "photos")
