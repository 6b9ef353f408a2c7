from collections.abc import Iterator

import pytest

from tests.fakes.s3 import FaultyProxy, S3Server


@pytest.fixture(scope="session")
def server() -> Iterator[S3Server]:
    with S3Server(page_size=10) as server:
        yield server


@pytest.fixture
def proxy(server: S3Server) -> Iterator[FaultyProxy]:
    with FaultyProxy(server.url) as proxy:
        yield proxy
