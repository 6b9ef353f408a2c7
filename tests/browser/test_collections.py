"""The page of all collections and the menu in Chromium."""

from collections.abc import Iterator

import pytest
from playwright.sync_api import expect

from tests.browser.conftest import OpenTab, Site, ready
from tests.helpers.pictures import make_pictures
from tests.helpers.processes import serving

pytestmark = [pytest.mark.browser, pytest.mark.xdist_group("browser")]

NAMES = ["alps", "birds", "castle", "dunes", "estuary", "forest", "glacier", "harbour", "island", "jungle"]


@pytest.fixture(scope="module")
def many_collections(site: Site, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The URL of a server that shows ten collections beside those of the site."""
    folder = tmp_path_factory.mktemp("collections")
    make_pictures(folder / "pictures", 1, first=3000)
    for name in NAMES:
        assert site.syncer("upload", folder / "pictures", "--bucket", name).status == 0
    with serving(site.environment, folder / "server.log") as server:
        yield server.url
    for name in NAMES:
        assert site.syncer("drop", "--bucket", name, "--yes").status == 0


@pytest.mark.parametrize("width", [1280, 390])
def test_all_collections_are_shown_with_cover_count_and_progress(
    open_tab: OpenTab, many_collections: str, width: int
) -> None:
    tab = open_tab("/collections", width=width)
    page = tab.page
    page.goto(f"{many_collections}/collections")
    cards = page.locator(".collection-card")
    names = page.locator(".collection-card .collection-title").all_text_contents()
    assert names == sorted(names, key=str.casefold)
    assert {"many", "photos", *NAMES} <= set(names)
    many = cards.filter(has_text="150 images")
    expect(many.locator("progress")).to_have_attribute("max", "150")
    expect(many).to_contain_text("150 pending")
    expect(many.locator("img")).to_have_js_property("complete", True)
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    page.get_by_label("Filter collections").fill("PHO")
    expect(cards.locator("visible=true")).to_have_count(1)
    cards.locator("visible=true").click()
    ready(page)
    expect(page.locator(".collection-name")).to_have_text("photos")


def test_the_menu_is_sorted_and_can_be_filtered(open_tab: OpenTab, many_collections: str) -> None:
    page = open_tab("/collections").page
    page.goto(f"{many_collections}/?bucket=photos")
    ready(page)
    page.locator(".collections summary").click()
    names = page.locator("#collection-menu .collection-title").all_text_contents()
    assert names == sorted(names, key=str.casefold)
    page.get_by_label("Filter collections").fill("isl")
    expect(page.locator("#collection-menu .collection-title").locator("visible=true")).to_have_text(["island"])
    page.get_by_role("link", name="All collections").click()
    expect(page.get_by_role("heading", level=1)).to_have_text("Collections")
