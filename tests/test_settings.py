"""Every setting is documented, and what is documented is a setting."""

import re
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from server.settings import ServerSettings
from shared.errors import SettingsError
from shared.settings import load
from syncer.settings import SyncerSettings

ROOT = Path(__file__).parents[1]
SETTINGS = {name.upper() for kind in (SyncerSettings, ServerSettings) for name in kind.model_fields}


def test_the_readme_names_every_setting() -> None:
    table = (ROOT / "README.md").read_text().partition("## Settings")[2].partition("\n## ")[0]
    assert SETTINGS - set(re.findall(r"`([A-Z][A-Z0-9_]+)`", table)) == set()


def test_the_example_of_an_environment_file_names_every_setting_and_no_other() -> None:
    example = (ROOT / ".env.example").read_text()
    assert set(re.findall(r"^#?([A-Z][A-Z0-9_]+)=", example, re.MULTILINE)) == SETTINGS


def test_the_example_of_an_environment_file_sets_nothing_as_it_is() -> None:
    assert not re.findall(r"^[^#\n]", (ROOT / ".env.example").read_text(), re.MULTILINE)


def test_an_address_that_is_none_is_refused_at_once_without_its_password() -> None:
    with pytest.raises(SettingsError, match="^DATABASE_URL: .*give postgresql://") as refused:
        load(ServerSettings, database_url="postgres//user:hidden@host")
    assert "hidden" not in str(refused.value)


def test_a_port_that_is_taken_is_named(environment: dict[str, str]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        command = [sys.executable, "-m", "server", "--port", str(port)]
        done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=120)
    assert done.returncode == 1
    assert f"port {port}" in done.stderr
    assert "--port" in done.stderr
