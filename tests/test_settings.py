"""Documentation of the settings, and errors about wrong ones."""

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


def test_the_settings_page_documents_every_setting_and_no_other() -> None:
    page = (ROOT / "docs" / "settings.md").read_text()
    cells = [row.split("|") for row in page.splitlines() if row.startswith("| `")]
    # The AWS_* variables are defaults of the R2_* credentials, so they stand in the third column.
    documented = re.findall(r"`([A-Z][A-Z0-9_]+)`", " ".join(cell[1] + cell[3] for cell in cells))
    assert set(documented) == SETTINGS


def test_the_example_environment_file_lists_every_setting_and_no_other() -> None:
    example = (ROOT / ".env.example").read_text()
    assert set(re.findall(r"^#?([A-Z][A-Z0-9_]+)=", example, re.MULTILINE)) == SETTINGS


def test_the_example_environment_file_sets_nothing() -> None:
    assert not re.findall(r"^[^#\n]", (ROOT / ".env.example").read_text(), re.MULTILINE)


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
