"""Addresses of objects in S3: presigned ones, and those of a public bucket."""

from datetime import UTC, datetime, timedelta
from urllib.parse import parse_qs, urlsplit

import botocore.auth
import botocore.awsrequest
import botocore.credentials
import pytest

from shared.stores.s3 import ADDRESS_WINDOW
from tests.fakes.s3 import ACCESS_KEY_ID, SECRET_ACCESS_KEY, s3_store


@pytest.mark.parametrize("token", [None, "session/token+="])
def test_the_signature_is_the_one_that_botocore_computes(monkeypatch: pytest.MonkeyPatch, token: str | None) -> None:
    start_of_window = datetime(2026, 11, 21, 10, 0, 0, tzinfo=UTC)
    monkeypatch.setattr("shared.stores.s3.time.time", lambda: start_of_window.timestamp() + 1234)
    monkeypatch.setattr(botocore.auth, "get_current_datetime", lambda **_: start_of_window.replace(tzinfo=None))
    store = s3_store("https://store.example:8443", "photos", session_token=token)
    for key in ["a.jpg", "Grüße aus/Köln +&=?#%20~*'().jpg"]:
        address = store.address(key)
        request = botocore.awsrequest.AWSRequest("GET", address.partition("?")[0])
        credentials = botocore.credentials.Credentials(ACCESS_KEY_ID, SECRET_ACCESS_KEY, token)
        botocore.auth.S3SigV4QueryAuth(credentials, "s3", "auto", expires=2 * ADDRESS_WINDOW).add_auth(request)
        assert parse_qs(urlsplit(address).query) == parse_qs(urlsplit(request.url).query)


def test_an_address_stays_the_same_for_an_hour_and_is_valid_for_at_least_another(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    store = s3_store("https://store.example", "photos")
    start = datetime(2026, 11, 21, 23, 0, 0, tzinfo=UTC)
    addresses = set()
    for minute in range(0, 121, 5):
        now = start + timedelta(minutes=minute, seconds=-1 if minute in {60, 120} else 0)
        monkeypatch.setattr("shared.stores.s3.time.time", now.timestamp)
        address = store.address("a.jpg", version="v")
        parameters = parse_qs(urlsplit(address).query)
        signed = datetime.strptime(parameters["X-Amz-Date"][0], "%Y%m%dT%H%M%SZ").replace(tzinfo=UTC)
        remaining = signed + timedelta(seconds=int(parameters["X-Amz-Expires"][0])) - now
        assert signed <= now
        assert timedelta(hours=1) <= remaining <= timedelta(hours=2)
        addresses.add(address)
    assert len(addresses) == 2


@pytest.mark.parametrize(
    ("endpoint", "origin"),
    [
        ("https://Store.Example:443/", "https://store.example/photos/"),
        ("http://store.example:80", "http://store.example/photos/"),
        ("http://store.example:9000/s3", "http://store.example:9000/s3/photos/"),
        ("http://[::1]:9000", "http://[::1]:9000/photos/"),
    ],
)
def test_the_signed_host_is_the_one_that_browsers_send(endpoint: str, origin: str) -> None:
    assert s3_store(endpoint, "photos").address("a.jpg").startswith(f"{origin}a.jpg?")


def test_each_version_of_an_object_has_its_own_address() -> None:
    store = s3_store("https://store.example", "photos")
    assert len({store.address("a.jpg", version=version) for version in ("", "1", "2")}) == 3


@pytest.mark.parametrize(
    ("public_url", "address"),
    [
        ("https://cdn.example", "https://cdn.example/K%C3%B6ln/%231%20%25.jpg?v=1%2F2"),
        ("https://cdn.example/", "https://cdn.example/K%C3%B6ln/%231%20%25.jpg?v=1%2F2"),
        ("https://{bucket}.cdn.example/x", "https://photos.cdn.example/x/K%C3%B6ln/%231%20%25.jpg?v=1%2F2"),
        ("https://cdn.example/{bucket}/{key}?w=9", "https://cdn.example/photos/K%C3%B6ln/%231%20%25.jpg?w=9&v=1%2F2"),
    ],
)
def test_objects_in_a_public_bucket_have_permanent_addresses(public_url: str, address: str) -> None:
    store = s3_store("https://store.example", "photos", public_url=public_url)
    assert store.address("Köln/#1 %.jpg", version="1/2") == address
