"""Every setting is documented, and what is documented is a setting."""

import re
from pathlib import Path

from server.settings import ServerSettings
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
