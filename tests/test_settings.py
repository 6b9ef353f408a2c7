"""Errors about wrong settings."""

import re
import socket
import subprocess
import sys

import pytest

from server.settings import ServerSettings
from shared.errors import SettingsError
from shared.settings import load


@pytest.mark.parametrize(
    "address",
    [
        "postgres//user:hidden@host",
        # libpq takes what follows @ or / for the host or the database.
        "postgresql://user:pass@hidden@host:5432/images",
        "postgresql://user:pass/hidden@host/images",
        "postgresql://user:1/hidden@host/images",
    ],
)
@pytest.mark.parametrize("name", ["database_url", "database_read_urls"])
def test_an_invalid_database_address_is_refused_without_showing_its_password(name: str, address: str) -> None:
    with pytest.raises(SettingsError, match=f"^{name.upper()}.* is not a PostgreSQL address: .*%40 for @") as refused:
        load(ServerSettings, **{name: address})
    assert "hidden" not in str(refused.value)


@pytest.mark.parametrize(
    "address",
    [
        "postgresql://user:p%40ss%2Fword@one:5432,two:5433/images?target_session_attrs=read-write",
        "postgresql://user@/images?host=/tmp/a@b",
        "host=localhost user=me password=a@b/c dbname=images",
        "postgresql://tenant.user:secret@[::1]/a%40b",
    ],
)
def test_a_valid_database_address_is_accepted(address: str) -> None:
    assert load(ServerSettings, database_url=address).database_url


def test_one_message_lists_every_problem() -> None:
    with pytest.raises(SettingsError) as refused:
        load(
            ServerSettings,
            port=99_999,
            public_url="images.example.com",
            s3_endpoint_url="minio:9000",
            r2_account_id="my account",
            api_token="short",
            aws_access_key_id="id",
        )
    problems = str(refused.value).splitlines()
    assert [problem.split()[0] for problem in problems] == [
        "R2_ACCOUNT_ID",
        "S3_ENDPOINT_URL",
        "PUBLIC_URL",
        "PORT",
        "API_TOKEN",
    ]


def test_invalid_and_missing_credentials_are_reported_together() -> None:
    with pytest.raises(SettingsError) as refused:
        load(ServerSettings, port=99_999, s3_endpoint_url="http://127.0.0.1:9000", r2_access_key_id="id")
    assert re.search("PORT.*\nR2_SECRET_ACCESS_KEY .*is required", str(refused.value))


def test_a_port_in_use_is_named(environment: dict[str, str]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        command = [sys.executable, "-m", "server", "--port", str(port)]
        done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=120)
    assert done.returncode == 1
    assert f"port {port}" in done.stderr
    assert "--port" in done.stderr
