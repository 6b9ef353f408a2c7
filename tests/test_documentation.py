"""The documentation names settings, files, modules and pages that exist."""

import re
from importlib.util import find_spec
from pathlib import Path

import pytest

from server.settings import ServerSettings
from syncer.settings import SyncerSettings

ROOT = Path(__file__).parents[1]
PAGES = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md")])
SETTINGS = {name.upper() for kind in (SyncerSettings, ServerSettings) for name in kind.model_fields}
PATH = re.compile(r"(syncer|server|shared|tests|migrations|bench|docs|scripts|requirements)/[\w./-]*")


def anchors(page: Path) -> set[str]:
    """Return the anchors that GitHub generates for the headings of a page."""
    headings = re.findall(r"^#+ (.+)$", page.read_text(), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_and_paths_lead_to_something(page: Path) -> None:
    text = page.read_text()
    for target, anchor in re.findall(r"\]\((?!https?:)([^)#]*)#?([^)]*)\)", text):
        linked = page.parent / target if target else page
        assert linked.exists(), target
        assert not anchor or anchor in anchors(linked), f"{target}#{anchor}"
    for path in re.findall(r"`([^`\s]+)`", text):
        if PATH.fullmatch(path):
            assert (ROOT / path).exists(), path
    for module in re.findall(r"python -m ((?:bench|server|syncer|shared)[\w.]*)", text):
        assert find_spec(module), module


def test_the_settings_page_documents_every_setting_and_no_other() -> None:
    page = (ROOT / "docs" / "settings.md").read_text()
    cells = [row.split("|") for row in page.splitlines() if row.startswith("| `")]
    # The AWS_* variables are defaults of the R2_* credentials, so they are in the third column.
    documented = re.findall(r"`([A-Z][A-Z0-9_]+)`", " ".join(cell[1] + cell[3] for cell in cells))
    assert set(documented) == SETTINGS


def test_the_example_environment_file_lists_every_setting_and_no_other() -> None:
    example = (ROOT / ".env.example").read_text()
    assert set(re.findall(r"^#?([A-Z][A-Z0-9_]+)=", example, re.MULTILINE)) == SETTINGS


def test_the_example_environment_file_sets_nothing() -> None:
    assert not re.findall(r"^[^#\n]", (ROOT / ".env.example").read_text(), re.MULTILINE)


def test_the_systemd_unit_lets_decoders_restrict_their_access_to_files() -> None:
    # systemd 252, that of Debian 12, does not know these calls as part of @system-service.
    allowed = re.findall(r"^    SystemCallFilter=(.*)", (ROOT / "docs" / "deploy.md").read_text(), re.MULTILINE)
    needed = {"landlock_create_ruleset", "landlock_add_rule", "landlock_restrict_self"}
    assert set(" ".join(allowed).split()) >= needed
