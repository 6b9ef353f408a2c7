"""Errors about wrong settings."""

import socket
import subprocess
import sys

import pytest

from server.settings import ServerSettings
from shared.errors import SettingsError
from shared.settings import load


def test_an_invalid_database_address_is_refused_without_showing_its_password() -> None:
    with pytest.raises(SettingsError, match="^DATABASE_URL is not a PostgreSQL address: use postgresql://") as refused:
        load(ServerSettings, database_url="postgres//user:hidden@host")
    assert "hidden" not in str(refused.value)


def test_a_port_in_use_is_named(environment: dict[str, str]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        command = [sys.executable, "-m", "server", "--port", str(port)]
        done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=120)
    assert done.returncode == 1
    assert f"port {port}" in done.stderr
    assert "--port" in done.stderr
