"""What is R2's and S3's alone: faults on the way, what is sent, presigned addresses, messages with a remedy."""

import asyncio
import hashlib
import http.client
import io
import socket
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import botocore.auth
import botocore.awsrequest
import botocore.credentials
import botocore.httpsession
import pytest
import urllib3

from shared.errors import ImageRefused, ObjectExists, ObjectMissing, Reason, SettingsError, StoreError
from shared.stores.base import CACHE_IMAGE, StoredObject
from shared.stores.s3 import ADDRESS_WINDOW, PART_SIZE, S3Store, r2_endpoint
from tests.fakes.s3 import ACCESS_KEY_ID, SECRET_ACCESS_KEY, Fault, FaultyProxy, Request, S3Server, s3_arguments

BODY = b"pixels" * 1000
SHA256 = hashlib.sha256(BODY).hexdigest()

FAULTS = {
    "500": Fault("status", 500),
    "502 with a page": Fault("status", 502, body="<html><body>Bad gateway</body></html>"),
    "503": Fault("status", 503, "SlowDown"),
    "429": Fault("status", 429, "TooManyRequests", headers={"Retry-After": "0.1"}),
    "400 after a stalled body": Fault("status", 400, "RequestTimeout"),
    "reset": Fault("reset"),
    "lost answer": Fault("lost"),
    "half an answer": Fault("half"),
    "hang": Fault("hang", seconds=3.0),
}


@pytest.fixture(scope="module")
def server() -> Iterator[S3Server]:
    with S3Server(page_size=10) as server:
        yield server


@pytest.fixture
def proxy(server: S3Server) -> Iterator[FaultyProxy]:
    with FaultyProxy(server.url) as proxy:
        yield proxy


@pytest.fixture
async def store(server: S3Server, proxy: FaultyProxy) -> AsyncIterator[S3Store]:
    server.make_bucket("photos")
    store = S3Store(**s3_arguments(proxy.url, "photos", retry_timeout=20, timeout=1.5))
    await store.delete([stored.key async for stored in store.list()])
    proxy.clear()
    yield store
    await store.close()


async def put(store: S3Store, key: str, body: bytes | Path = BODY, **more: Any) -> None:
    content = body if isinstance(body, bytes) else body.read_bytes()
    facts = {"content_type": "image/jpeg", "cache_control": CACHE_IMAGE, "sha256": hashlib.sha256(content).hexdigest()}
    await store.put(key, body, **{**facts, **more})


async def keys(store: S3Store) -> list[str]:
    return [stored.key async for stored in store.list()]


# --- what is sent ---


async def test_checksums_and_bodies_are_sent_in_the_one_form_that_r2_takes(
    monkeypatch: pytest.MonkeyPatch, large: Path
) -> None:
    # Over plain HTTP boto3 never uses the form that R2 refuses, so this looks at what would go over HTTPS.
    sent: list[botocore.awsrequest.AWSPreparedRequest] = []

    def answer(_: object, request: botocore.awsrequest.AWSPreparedRequest) -> botocore.awsrequest.AWSResponse:
        sent.append(request)
        body = b"<Result><UploadId>1</UploadId></Result>" if request.method == "POST" else b""
        raw = urllib3.HTTPResponse(io.BytesIO(body), preload_content=False)
        return botocore.awsrequest.AWSResponse(request.url, 200, {"ETag": "1"}, raw)

    monkeypatch.setattr(botocore.httpsession.URLLib3Session, "send", answer)
    store = S3Store(**s3_arguments("https://nowhere.invalid", "photos"))
    await put(store, "a.jpg")
    await put(store, "large.jpg", large)
    await store.close()
    bodies = [request for request in sent if request.method == "PUT"]
    assert len(bodies) > 2
    for request in bodies:
        headers = {
            name.lower(): value.decode() if isinstance(value, bytes) else value
            for name, value in request.headers.items()
        }
        content = request.body if isinstance(request.body, bytes) else request.body.getvalue()
        assert content
        assert headers["x-amz-content-sha256"] == hashlib.sha256(content).hexdigest()
        assert not {"expect", "content-encoding", "transfer-encoding", "x-amz-trailer"} & headers.keys()
        assert not any("checksum" in name or "crc" in name for name in headers)


@pytest.mark.parametrize("token", [None, "session/token+="])
async def test_uploads_are_signed_as_botocore_signs_them(monkeypatch: pytest.MonkeyPatch, token: str | None) -> None:
    sent: list[botocore.awsrequest.AWSPreparedRequest] = []

    def answer(_: object, request: botocore.awsrequest.AWSPreparedRequest) -> botocore.awsrequest.AWSResponse:
        sent.append(request)
        return botocore.awsrequest.AWSResponse(request.url, 200, {}, urllib3.HTTPResponse(io.BytesIO()))

    monkeypatch.setattr(botocore.httpsession.URLLib3Session, "send", answer)
    moment = datetime(2026, 11, 21, 10, 0, 0, tzinfo=UTC)
    monkeypatch.setattr("shared.stores.presign.time.time", moment.timestamp)
    monkeypatch.setattr(botocore.auth, "get_current_datetime", lambda **_: moment.replace(tzinfo=None))
    store = S3Store(**s3_arguments("https://store.example:8443", "photos", session_token=token))
    for key in ["a.jpg", "Grüße aus/Köln +&=?#%20~*'().jpg"]:
        await put(store, key, overwrite=False)
        ours = sent.pop()
        unsigned = {
            name: value
            for name, value in ours.headers.items()
            if name not in {"authorization", "host", "x-amz-date", "x-amz-security-token"}
        }
        theirs = botocore.awsrequest.AWSRequest("PUT", ours.url, headers=unsigned, data=BODY)
        credentials = botocore.credentials.Credentials(ACCESS_KEY_ID, SECRET_ACCESS_KEY, token)
        botocore.auth.S3SigV4Auth(credentials, "s3", "auto").add_auth(theirs)
        assert ours.headers["authorization"] == theirs.headers["Authorization"]
    await store.close()


async def test_a_bucket_of_another_region_is_found(store: S3Store, proxy: FaultyProxy) -> None:
    elsewhere = "<Error><Code>AuthorizationHeaderMalformed</Code><Region>eu-west-1</Region></Error>"
    proxy.fail_next(Fault("status", 400, body=elsewhere), "put", times=2)
    await put(store, "a.jpg", overwrite=False)
    assert await store.get("a.jpg") == BODY
    assert "eu-west-1" in [request for request in proxy.requests if request.kind == "put"][-1].headers["authorization"]


async def test_a_put_says_what_the_object_is(store: S3Store, proxy: FaultyProxy) -> None:
    await put(store, "a.jpg")
    headers = proxy.requests[0].headers
    assert headers["content-type"] == "image/jpeg"
    assert headers["cache-control"] == CACHE_IMAGE
    assert headers["x-amz-meta-sha256"] == SHA256
    assert "if-none-match" not in headers
    await put(store, "b.jpg", overwrite=False)
    assert proxy.requests[1].headers["if-none-match"] == "*"


async def test_each_call_is_one_request(store: S3Store, proxy: FaultyProxy, tmp_path: Path) -> None:
    photo = tmp_path / "photo.jpg"
    photo.write_bytes(BODY)
    await put(store, "a.jpg", photo)
    await put(store, "b.jpg", overwrite=False)
    await store.get("a.jpg")
    await store.head("a.jpg")
    await store.copy("a.jpg", "c.jpg")
    assert await keys(store) == ["a.jpg", "b.jpg", "c.jpg"]
    await store.delete(["a.jpg", "b.jpg"])
    store.address("a.jpg")
    assert proxy.counts == {"put": 2, "get": 1, "head": 1, "copy": 1, "list": 1, "delete": 1}


async def test_deletions_go_by_the_thousand(store: S3Store, proxy: FaultyProxy) -> None:
    await store.delete([f"{number}.jpg" for number in range(2001)])
    assert proxy.counts == {"delete": 3}


async def test_a_listing_is_read_page_by_page_as_it_is_wanted(store: S3Store, proxy: FaultyProxy) -> None:
    for number in range(25):
        await put(store, f"{number:02} +&ä.jpg")
    proxy.clear()
    listing = store.list()
    assert [(await anext(listing)).key for _ in range(10)] == [f"{number:02} +&ä.jpg" for number in range(10)]
    assert proxy.counts == {"list": 1}
    assert len([stored async for stored in listing]) == 15
    assert proxy.counts == {"list": 3}


async def test_as_many_requests_run_at_once_as_was_asked(server: S3Server, proxy: FaultyProxy) -> None:
    store = S3Store(**s3_arguments(proxy.url, "photos", concurrency=12))
    assert store._client.meta.config.max_pool_connections == 12
    await asyncio.gather(*(put(store, f"{number}.jpg") for number in range(40)))
    await store.close()
    assert proxy.counts == {"put": 40}


async def test_a_key_with_a_control_character_is_refused_with_the_reason(store: S3Store) -> None:
    with pytest.raises(ImageRefused, match="control character") as refused:
        await put(store, "a\x01.jpg")
    assert refused.value.reason is Reason.KEY_INVALID


# --- faults ---

# What is called, what lies in the bucket afterwards.
CALLS: dict[str, tuple[Callable[[S3Store], Awaitable[object]], list[str]]] = {
    "put": (lambda store: put(store, "new.jpg"), ["new.jpg", "old.jpg"]),
    "put without overwriting": (lambda store: put(store, "new.jpg", overwrite=False), ["new.jpg", "old.jpg"]),
    "get": (lambda store: store.get("old.jpg"), ["old.jpg"]),
    "head": (lambda store: store.head("old.jpg"), ["old.jpg"]),
    "copy": (lambda store: store.copy("old.jpg", "copy.jpg"), ["copy.jpg", "old.jpg"]),
    "delete": (lambda store: store.delete(["old.jpg"]), []),
    "list": (keys, ["old.jpg"]),
}


@pytest.mark.parametrize("fault", FAULTS.values(), ids=FAULTS.keys())
@pytest.mark.parametrize(("call", "left"), CALLS.values(), ids=CALLS.keys())
async def test_what_passes_is_tried_again(
    store: S3Store,
    proxy: FaultyProxy,
    monkeypatch: pytest.MonkeyPatch,
    call: Callable[[S3Store], Awaitable[object]],
    left: list[str],
    fault: Fault,
) -> None:
    monkeypatch.setattr("shared.stores.s3._wait", lambda state: 0.01)
    await put(store, "old.jpg")
    proxy.clear()
    proxy.fail_next(fault)
    answer = await call(store)
    assert proxy.requests[0].faulted
    assert len(proxy.requests) <= 3
    if isinstance(answer, StoredObject):
        assert (answer.size, answer.sha256) == (len(BODY), SHA256)
    elif answer is not None:
        assert answer in (BODY, left)
    assert await keys(store) == left


async def test_an_outage_is_waited_out(store: S3Store, proxy: FaultyProxy) -> None:
    proxy.fail_for(1.0, Fault("reset"))
    await asyncio.gather(*(put(store, f"{number}.jpg") for number in range(8)))
    proxy.rule = lambda request: None
    assert len(await keys(store)) == 8


async def test_patience_ends(server: S3Server, proxy: FaultyProxy) -> None:
    store = S3Store(**s3_arguments(proxy.url, "photos", retry_timeout=0.5))
    proxy.rule = lambda request: Fault("status", 503, "SlowDown")
    with pytest.raises(StoreError, match="SlowDown") as error:
        await put(store, "a.jpg")
    await store.close()
    assert error.value.transient
    assert isinstance(error.value.__cause__, Exception)


async def test_a_wait_longer_than_patience_is_handed_on(store: S3Store, proxy: FaultyProxy) -> None:
    proxy.rule = lambda request: Fault("status", 503, "SlowDown", headers={"Retry-After": "3600"})
    with pytest.raises(StoreError) as error:
        await store.get("a.jpg")
    assert (error.value.retry_after, proxy.counts) == (3600, {"get": 1})


async def test_what_cannot_pass_is_not_tried_again(store: S3Store, proxy: FaultyProxy) -> None:
    proxy.rule = lambda request: Fault("status", 400, "InvalidRequest")
    with pytest.raises(StoreError, match="InvalidRequest") as error:
        await store.copy("a.jpg", "b.jpg")
    assert not error.value.transient
    assert proxy.counts == {"copy": 1}


async def test_half_an_object_is_never_given(store: S3Store, proxy: FaultyProxy, tmp_path: Path) -> None:
    await put(store, "a.jpg")
    proxy.fail_next(Fault("half"), "get", times=3)
    assert await store.get("a.jpg") == BODY
    proxy.fail_next(Fault("half"), "get", times=3)
    await store.download("a.jpg", tmp_path / "a.jpg")
    assert (tmp_path / "a.jpg").read_bytes() == BODY


async def test_a_put_that_may_not_overwrite_knows_its_own_work_when_the_answer_was_lost(
    store: S3Store, proxy: FaultyProxy
) -> None:
    proxy.fail_next(Fault("lost"), "put")
    await put(store, "a.jpg", overwrite=False)
    assert await store.get("a.jpg") == BODY


async def test_a_put_that_may_not_overwrite_tells_others_work_from_its_own(store: S3Store, proxy: FaultyProxy) -> None:
    await put(store, "a.jpg", b"somebody else's")
    proxy.fail_next(Fault("lost"), "put")
    with pytest.raises(ObjectExists):
        await put(store, "a.jpg", overwrite=False)
    assert await store.get("a.jpg") == b"somebody else's"


async def test_of_two_conditional_writers_the_one_sent_away_asks_again(store: S3Store, proxy: FaultyProxy) -> None:
    proxy.fail_next(Fault("status", 409, "ConditionalRequestConflict"))
    await put(store, "a.jpg", overwrite=False)
    assert await store.get("a.jpg") == BODY


async def test_a_store_that_is_being_restarted_is_waited_for(server: S3Server) -> None:
    proxy = FaultyProxy(server.url).start()
    store = S3Store(**s3_arguments(proxy.url, "photos"))
    await put(store, "a.jpg")
    proxy.stop()
    waiting = asyncio.create_task(store.get("a.jpg"))
    await asyncio.sleep(0.5)
    assert not waiting.done()
    proxy.start()
    assert await waiting == BODY
    proxy.stop()
    await store.close()


async def test_a_store_without_conditional_writes_is_asked_first(store: S3Store, proxy: FaultyProxy) -> None:
    def rule(request: Request) -> Fault | None:
        return Fault("status", 501, "NotImplemented") if "if-none-match" in request.headers else None

    proxy.rule = rule
    await put(store, "a.jpg", overwrite=False)
    with pytest.raises(ObjectExists):
        await put(store, "a.jpg", b"second", overwrite=False)
    assert await store.get("a.jpg") == BODY
    assert proxy.counts == {"put": 2, "head": 2, "get": 1}


async def test_keys_that_were_not_deleted_are_told(store: S3Store, proxy: FaultyProxy) -> None:
    error_of_one = "<Key>b.jpg</Key><Code>AccessDenied</Code><Message>not yours</Message>"
    body = f"<DeleteResult><Error>{error_of_one}</Error></DeleteResult>"
    proxy.fail_next(Fault("status", 200, body=body))
    with pytest.raises(StoreError, match=r"1 of 2.*'b\.jpg': AccessDenied not yours") as error:
        await store.delete(["a.jpg", "b.jpg"])
    assert not error.value.transient


async def test_keys_that_were_not_deleted_this_time_are_tried_again(store: S3Store, proxy: FaultyProxy) -> None:
    await put(store, "a.jpg")
    body = "<DeleteResult><Error><Key>a.jpg</Key><Code>InternalError</Code></Error></DeleteResult>"
    proxy.fail_next(Fault("status", 200, body=body))
    await store.delete(["a.jpg"])
    proxy.rule = lambda request: None
    assert await keys(store) == []


# --- large files ---


@pytest.fixture
def large(tmp_path: Path) -> Path:
    path = tmp_path / "large.tif"
    path.write_bytes(b"".join(bytes([number]) * 1_000_003 for number in range(20)))
    return path


@pytest.mark.parametrize("overwrite", [True, False])
async def test_a_large_file_travels_in_equal_parts(
    server: S3Server, proxy: FaultyProxy, large: Path, overwrite: bool
) -> None:
    server.make_bucket("large")
    store = S3Store(**s3_arguments(proxy.url, "large"))
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
    ends = [request for request in proxy.requests if request.kind == "end_parts"]
    assert [request.headers.get("if-none-match") for request in ends] == [None if overwrite else "*"]
    await store.close()


async def test_a_large_upload_that_fails_leaves_no_parts(store: S3Store, proxy: FaultyProxy, large: Path) -> None:
    proxy.fail_next(Fault("status", 403, "AccessDenied"), "part")
    with pytest.raises(StoreError, match="AccessDenied"):
        await put(store, "large.tif", large)
    assert proxy.counts == {"start_parts": 1, "part": 1, "drop_parts": 1}
    assert await keys(store) == []


async def test_a_large_file_that_changes_is_not_stored(store: S3Store, proxy: FaultyProxy, large: Path) -> None:
    with pytest.raises(ImageRefused) as refused:
        await put(store, "large.tif", large, sha256="0" * 64)
    assert refused.value.reason is Reason.CHANGED
    assert proxy.counts["drop_parts"] == 1
    assert await keys(store) == []


async def test_a_large_upload_knows_its_own_work_when_the_last_answer_was_lost(
    store: S3Store, proxy: FaultyProxy, large: Path
) -> None:
    proxy.fail_next(Fault("lost"), "end_parts")
    await put(store, "large.tif", large, overwrite=False)
    assert (await store.head("large.tif")).size == large.stat().st_size


# --- addresses ---


def fetch(address: str) -> tuple[int, bytes]:
    parts = urlsplit(address)
    connection = http.client.HTTPConnection(parts.netloc, timeout=10)
    try:
        connection.request("GET", f"{parts.path}?{parts.query}")
        answer = connection.getresponse()
        return answer.status, answer.read()
    finally:
        connection.close()


async def test_a_browser_gets_the_object_at_its_address(server: S3Server, store: S3Store) -> None:
    for key in ["a.jpg", "Grüße aus/Köln +&=?#%20.jpg"]:
        await put(store, key)
        assert fetch(store.address(key, version="abc")) == (200, BODY)


@pytest.mark.parametrize("token", [None, "session/token+="])
def test_addresses_are_signed_as_botocore_signs_them(monkeypatch: pytest.MonkeyPatch, token: str | None) -> None:
    moment = datetime(2026, 11, 21, 10, 0, 0, tzinfo=UTC)
    monkeypatch.setattr("shared.stores.s3.time.time", lambda: moment.timestamp() + 1234)
    monkeypatch.setattr(botocore.auth, "get_current_datetime", lambda **_: moment.replace(tzinfo=None))
    store = S3Store(**s3_arguments("https://store.example:8443", "photos", session_token=token))
    for key in ["a.jpg", "Grüße aus/Köln +&=?#%20~*'().jpg"]:
        address = store.address(key)
        request = botocore.awsrequest.AWSRequest("GET", address.partition("?")[0])
        credentials = botocore.credentials.Credentials(ACCESS_KEY_ID, SECRET_ACCESS_KEY, token)
        botocore.auth.S3SigV4QueryAuth(credentials, "s3", "auto", expires=2 * ADDRESS_WINDOW).add_auth(request)
        assert parse_qs(urlsplit(address).query) == parse_qs(urlsplit(request.url).query)


def test_an_address_stays_the_same_for_an_hour_and_works_for_an_hour_more(monkeypatch: pytest.MonkeyPatch) -> None:
    store = S3Store(**s3_arguments("https://store.example", "photos"))
    start = datetime(2026, 11, 21, 23, 0, 0, tzinfo=UTC)
    seen = []
    for minute in range(0, 121, 5):
        now = start + timedelta(minutes=minute, seconds=-1 if minute in {60, 120} else 0)
        monkeypatch.setattr("shared.stores.s3.time.time", now.timestamp)
        address = store.address("a.jpg", version="v")
        parameters = parse_qs(urlsplit(address).query)
        signed = datetime.strptime(parameters["X-Amz-Date"][0], "%Y%m%dT%H%M%SZ").replace(tzinfo=UTC)
        left = signed + timedelta(seconds=int(parameters["X-Amz-Expires"][0])) - now
        assert signed <= now
        assert timedelta(hours=1) <= left <= timedelta(hours=2)
        seen.append(address)
    assert len(set(seen)) == 2


def test_an_address_names_the_host_as_a_browser_does() -> None:
    for endpoint, host in [
        ("https://Store.Example:443/", "https://store.example/photos/"),
        ("http://store.example:80", "http://store.example/photos/"),
        ("http://store.example:9000/s3", "http://store.example:9000/s3/photos/"),
        ("http://[::1]:9000", "http://[::1]:9000/photos/"),
    ]:
        assert S3Store(**s3_arguments(endpoint, "photos")).address("a.jpg").startswith(f"{host}a.jpg?")


def test_another_version_has_another_address() -> None:
    store = S3Store(**s3_arguments("https://store.example", "photos"))
    assert store.address("a.jpg", version="1") != store.address("a.jpg", version="2") != store.address("a.jpg")


@pytest.mark.parametrize(
    ("public_url", "address"),
    [
        ("https://cdn.example", "https://cdn.example/K%C3%B6ln/%231%20%25.jpg?v=1%2F2"),
        ("https://cdn.example/", "https://cdn.example/K%C3%B6ln/%231%20%25.jpg?v=1%2F2"),
        ("https://{bucket}.cdn.example/x", "https://photos.cdn.example/x/K%C3%B6ln/%231%20%25.jpg?v=1%2F2"),
        ("https://cdn.example/{bucket}/{key}?w=9", "https://cdn.example/photos/K%C3%B6ln/%231%20%25.jpg?w=9&v=1%2F2"),
    ],
)
def test_a_public_bucket_has_addresses_that_never_change(public_url: str, address: str) -> None:
    store = S3Store(**s3_arguments("https://store.example", "photos", public_url=public_url))
    assert store.address("Köln/#1 %.jpg", version="1/2") == address
    assert store.address("a.jpg") == store.address("a.jpg")


# --- settings and messages ---


def test_an_r2_account_has_its_own_endpoint_and_the_region_auto() -> None:
    assert r2_endpoint("0123456789abcdef") == "https://0123456789abcdef.r2.cloudflarestorage.com"
    store = S3Store(**s3_arguments(r2_endpoint("0123456789abcdef"), "photos"))
    assert store._client.meta.region_name == "auto"
    assert store._client.meta.endpoint_url == "https://0123456789abcdef.r2.cloudflarestorage.com"
    assert store.address("a.jpg").startswith("https://0123456789abcdef.r2.cloudflarestorage.com/photos/a.jpg?")
    with pytest.raises(SettingsError, match="R2_ACCOUNT_ID is 'my account'"):
        r2_endpoint("my account")


@pytest.mark.parametrize("bucket", ["", "My Photos", "a/b", "ü"])
def test_a_bucket_name_that_s3_does_not_know_is_refused_at_once(bucket: str) -> None:
    with pytest.raises(SettingsError, match="cannot be a bucket's name"):
        S3Store(**s3_arguments("https://store.example", bucket))


def test_an_endpoint_that_is_no_address_is_refused_at_once() -> None:
    with pytest.raises(SettingsError, match="S3_ENDPOINT_URL is 'store.example'"):
        S3Store(**s3_arguments("store.example", "photos"))


def test_the_files_of_the_aws_command_line_are_not_read(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "config").write_text("[default\nthis is no configuration")
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "config"))
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "config"))
    monkeypatch.setenv("AWS_PROFILE", "of-which-nobody-knows")
    S3Store(**s3_arguments("https://store.example", "photos"))


async def message_of(store: S3Store) -> str:
    try:
        with pytest.raises(StoreError) as error:
            await store.prepare()
    finally:
        await store.close()
    assert not isinstance(error.value, ObjectMissing)
    assert SECRET_ACCESS_KEY not in str(error.value)
    return str(error.value)


@pytest.mark.parametrize(
    ("status", "code"),
    [(403, "InvalidAccessKeyId"), (403, "SignatureDoesNotMatch"), (401, "Unauthorized"), (403, "AccessDenied")],
)
async def test_a_wrong_key_is_told_with_the_settings_to_look_at(
    store: S3Store, proxy: FaultyProxy, status: int, code: str
) -> None:
    proxy.fail_next(Fault("status", status, code))
    message = await message_of(store)
    assert f"refuses access key '{ACCESS_KEY_ID}' for bucket 'photos' ({code})" in message
    assert "R2_SECRET_ACCESS_KEY" in message
    assert proxy.counts == {"list": 1}


async def test_a_missing_bucket_is_told_with_how_to_make_it(server: S3Server) -> None:
    message = await message_of(S3Store(**s3_arguments(server.url, "not-there")))
    assert "has no bucket 'not-there': create it in the dashboard or with `aws s3 mb s3://not-there" in message
    assert server.url in message


async def test_a_clock_that_is_off_is_told_with_by_how_much(store: S3Store, proxy: FaultyProxy) -> None:
    date = format_datetime(datetime.now(UTC) - timedelta(minutes=42), usegmt=True)
    proxy.fail_next(Fault("status", 403, "RequestTimeTooSkewed", headers={"Date": date}))
    assert "refuses this machine's clock, which is 42 minutes ahead of its own: set it right" in await message_of(store)


async def test_an_endpoint_that_nobody_listens_at_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("shared.stores.s3._SHORT_PATIENCE", 0.1)
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))  # and does not listen
        url = f"http://127.0.0.1:{bound.getsockname()[1]}"
        message = await message_of(S3Store(**s3_arguments(url, "photos")))
    assert f"the object store at {url} cannot be reached" in message
    assert "S3_ENDPOINT_URL or R2_ACCOUNT_ID" in message


@pytest.mark.parametrize("body", ["<html><p>It works!", "<html><p>It works!</p></html>", "hello", ""])
@pytest.mark.parametrize("status", [200, 404])
async def test_an_endpoint_that_does_not_speak_s3_is_told(
    store: S3Store, proxy: FaultyProxy, monkeypatch: pytest.MonkeyPatch, status: int, body: str
) -> None:
    monkeypatch.setattr("shared.stores.s3._SHORT_PATIENCE", 0.1)
    proxy.rule = lambda request: Fault("status", status, body=body)
    assert "does not speak S3" in await message_of(store)
