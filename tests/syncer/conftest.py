"""An S3 service, and a proxy in front of it that counts requests."""

from collections.abc import Iterator

import pytest

from tests.fakes.s3 import FaultyProxy, S3Server


@pytest.fixture(scope="module")
def s3() -> Iterator[S3Server]:
    with S3Server(page_size=10) as running:
        yield running


@pytest.fixture
def proxy(s3: S3Server) -> Iterator[FaultyProxy]:
    with FaultyProxy(s3.url) as running:
        yield running
