"""The gallery in German."""

import re

import pytest
from playwright.sync_api import expect

from tests.browser.conftest import MANY_COUNT, OpenTab, Site, search

pytestmark = [pytest.mark.browser, pytest.mark.xdist_group("browser")]


def test_a_german_browser_gets_german_texts_from_server_and_scripts(open_gallery: OpenTab, site: Site) -> None:
    tab = open_gallery("/?bucket=photos", locale="de-AT")
    page = tab.page
    assert page.locator("html").get_attribute("lang") == "de"
    expect(page.locator("#title")).to_have_text("Neueste")
    expect(page.locator("#count")).to_have_text(re.compile("^[0-9]+ Bilder$"))
    search(page, "a cat")
    expect(page.locator("#title")).to_have_text("Ergebnisse für a cat")
    page.reload()
    expect(page.locator("#title")).to_have_text("Ergebnisse für a cat")


def test_german_counts_and_filters_are_the_same_with_and_without_javascript(open_tab: OpenTab) -> None:
    for javascript in (True, False):
        page = open_tab("/?bucket=many&min_width=500", locale="de", java_script_enabled=javascript).page
        expect(page.get_by_role("link", name="Filter Mindestens 500 px breit entfernen")).to_be_visible()
        page.goto(page.url.replace("&min_width=500", ""))
        expect(page.locator("#count")).to_have_text(f"{MANY_COUNT} Bilder")


def test_pages_vary_with_the_language(site: Site) -> None:
    response = site.server.http.get(site("/?bucket=photos"), headers={"Accept-Language": "de"})
    assert "Accept-Language" in response.headers["Vary"]
    assert '<html lang="de">' in response.text
