"""Accessibility rules of axe-core on every kind of page, in Chromium."""

import json
import shutil
import subprocess
import tarfile
from pathlib import Path

import pytest
from playwright.sync_api import expect

from tests.browser.conftest import OpenTab, Site

pytestmark = [pytest.mark.browser, pytest.mark.xdist_group("browser")]

SEARCH = "/?bucket=photos&q=a+cat&term=-text:people&term=text:night"
STATES = [
    "/?bucket=photos",
    SEARCH,
    "/?bucket=photos&similar={id}",
    "/?bucket=photos&view={id}",
    "/?bucket=many&q=zebra",
    "/?bucket=photos&q=a+cat+png,+2021&literal=2021",
    "/?bucket=missing",
    "/?bucket=many&camera=Camera+One&orientation=portrait",
    "/?bucket=photos&sort=-taken",
    "/collections",
    "/failures?bucket=many",
    "/nothing-here",
]


@pytest.fixture(scope="session")
def axe(tmp_path_factory: pytest.TempPathFactory) -> str:
    """The source of axe-core, fetched from npm: its licence (MPL-2.0) keeps it out of the repository."""
    folder = tmp_path_factory.mktemp("axe")
    command = ["npm", "pack", "axe-core@4", "--pack-destination", str(folder)]
    if not shutil.which("npm") or subprocess.run(command, capture_output=True, timeout=120).returncode:
        pytest.skip("axe-core cannot be fetched: it needs npm and its registry")
    with tarfile.open(next(Path(folder).glob("*.tgz"))) as archive:
        file = archive.extractfile("package/axe.min.js")
        assert file
        return file.read().decode()


@pytest.mark.parametrize("screen", [{"width": 1280}, {"width": 390, "is_mobile": True}], ids=["wide", "phone"])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_pages_break_no_rule(
    open_tab: OpenTab, site: Site, axe: str, screen: dict[str, int | bool], scheme: str
) -> None:
    image = site.server.get("/api/images", bucket="photos", limit=1)["images"][0]["id"]
    tab = open_tab("/?bucket=photos", allow_errors=True, **screen)
    tab.page.emulate_media(color_scheme=scheme)  # type: ignore[arg-type]
    broken = {}
    for state in STATES:
        tab.page.goto(site(state.format(id=image)))
        expect(tab.page.locator("main.is-ready, main:not(#gallery)")).to_be_visible()
        if "view" in state:
            expect(tab.page.locator(".pswp__img").first).to_be_visible()
            tab.page.keyboard.press("i")
        if "camera" in state:
            tab.page.locator(".filters > summary").click()
        # Through the debugger, because the page's policy forbids inline scripts.
        tab.page.evaluate(axe)
        result = tab.page.evaluate("axe.run({ resultTypes: ['violations'] })")
        broken[state] = [(rule["id"], rule["nodes"][0]["html"][:200]) for rule in result["violations"]]
    assert not any(broken.values()), json.dumps(broken, indent=1)
