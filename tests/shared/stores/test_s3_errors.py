"""Messages about S3 services that refuse requests or cannot be reached."""

import socket
from collections.abc import AsyncIterator

import pytest

from shared.errors import ObjectMissing, StoreError
from shared.stores.s3 import S3Store
from tests.fakes.s3 import ACCESS_KEY_ID, SECRET_ACCESS_KEY, Fault, FaultyProxy, S3Server, s3_store


@pytest.fixture
async def store(s3: S3Server, proxy: FaultyProxy) -> AsyncIterator[S3Store]:
    s3.make_bucket("photos")
    store = s3_store(proxy.url, "photos")
    yield store
    await store.close()


@pytest.fixture(autouse=True)
def short_retry_timeout(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("shared.stores.s3._SHORT_RETRY_TIMEOUT", 0.1)


async def error_of(store: S3Store) -> str:
    """Return the message of the StoreError that ``prepare`` raises."""
    with pytest.raises(StoreError) as error:
        await store.prepare()
    assert not isinstance(error.value, ObjectMissing)
    assert SECRET_ACCESS_KEY not in str(error.value)
    return str(error.value)


@pytest.mark.parametrize(
    ("status", "code"),
    [(403, "InvalidAccessKeyId"), (403, "SignatureDoesNotMatch"), (401, "Unauthorized"), (403, "AccessDenied")],
)
async def test_a_rejected_key_names_the_settings_to_check(
    store: S3Store, proxy: FaultyProxy, status: int, code: str
) -> None:
    proxy.fail_next(Fault("status", status, code))
    message = await error_of(store)
    assert f"rejects access key '{ACCESS_KEY_ID}' for bucket 'photos' ({code})" in message
    assert "R2_SECRET_ACCESS_KEY" in message
    assert proxy.counts == {"list": 1}


async def test_a_missing_bucket_comes_with_the_command_that_creates_it(s3: S3Server) -> None:
    store = s3_store(s3.url, "not-there")
    message = await error_of(store)
    await store.close()
    assert "has no bucket 'not-there': create it in the dashboard or with `aws s3 mb s3://not-there" in message
    assert s3.url in message


async def test_a_wrong_clock_is_named(store: S3Store, proxy: FaultyProxy) -> None:
    proxy.fail_next(Fault("status", 403, "RequestTimeTooSkewed"))
    assert "rejects this machine's clock: set the clock" in await error_of(store)


async def test_an_unreachable_endpoint_is_named_with_its_settings() -> None:
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))  # without listening
        url = f"http://127.0.0.1:{bound.getsockname()[1]}"
        store = s3_store(url, "photos")
        message = await error_of(store)
        await store.close()
    assert f"the object store at {url} is unreachable" in message
    assert "S3_ENDPOINT_URL or R2_ACCOUNT_ID" in message


@pytest.mark.parametrize("body", ["<html><p>It works!", "<html><p>It works!</p></html>", "hello", ""])
@pytest.mark.parametrize("status", [200, 404])
async def test_a_service_that_does_not_speak_s3_is_recognised(
    store: S3Store, proxy: FaultyProxy, status: int, body: str
) -> None:
    proxy.rule = lambda request: Fault("status", status, body=body)
    assert "does not speak S3" in await error_of(store)
