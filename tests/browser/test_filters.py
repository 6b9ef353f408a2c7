"""The panel of filters in a real Chromium."""

import re

import pytest
from playwright.sync_api import Page, expect

from tests.browser.conftest import CAMERA, MANY, OpenTab, Site, parameters, ready

pytestmark = [pytest.mark.browser, pytest.mark.xdist_group("browser")]


def expected(site: Site, **filters: str) -> list[str]:
    """The names of the first images that a list with these filters has."""
    return [key.rsplit("/", 1)[-1] for key in site.server.keys("/api/images", bucket="many", **filters)]


def end(page: Page, count: int) -> None:
    expect(page.locator("#end-of-list")).to_have_text(f"{count} images")


def test_filters_narrow_what_is_shown_at_once_and_stay_in_the_address(open_tab: OpenTab, site: Site) -> None:
    tab = open_tab("/?bucket=many")
    ready(tab.page)
    tab.page.locator("#filters summary").click()
    panel = tab.page.get_by_role("form", name="Filters")
    panel.get_by_label("Camera").select_option(CAMERA)
    active = tab.page.locator("#active-filters .filter-chip")
    expect(active).to_have_text([re.compile(CAMERA)])
    assert parameters(tab.page) == {"bucket": "many", "camera": CAMERA}
    end(tab.page, len(expected(site, camera=CAMERA, limit="200")))
    panel.get_by_text("Portrait").click()
    expect(active).to_have_count(2)
    tab.page.keyboard.press("Escape")
    expect(panel).to_be_hidden()
    names = expected(site, camera=CAMERA, orientation="portrait")
    assert names
    end(tab.page, len(names))
    assert tab.names() == names

    tab.page.reload()
    ready(tab.page)
    assert tab.names() == names
    assert tab.shifts == []
    active.first.click()
    expect(active).to_have_count(1)
    assert parameters(tab.page) == {"bucket": "many", "orientation": "portrait"}
    tab.page.go_back()
    expect(active).to_have_count(2)
    assert tab.names() == names
    tab.page.locator("#active-filters").get_by_role("link", name="Clear all").click()
    expect(active).to_have_count(0)
    expect(tab.page.locator("#count")).to_have_text(f"{MANY} images")


def test_filters_that_nothing_fits_say_so(open_tab: OpenTab) -> None:
    tab = open_tab("/?bucket=photos&q=a+cat&min_width=100000")
    expect(tab.page.locator("#empty")).to_contain_text("No images match these filters")
    expect(tab.page.locator("#active-filters")).to_contain_text("At least 100000 px wide")
    tab.page.get_by_role("link", name="Clear filters").click()
    ready(tab.page)
    assert parameters(tab.page) == {"bucket": "photos", "q": "a cat"}


def test_filters_are_a_sheet_on_a_phone(open_tab: OpenTab) -> None:
    tab = open_tab("/?bucket=many", width=360, height=640, is_mobile=True, has_touch=True)
    ready(tab.page)
    tab.page.locator("#filters summary").tap()
    panel = tab.page.get_by_role("form", name="Filters")
    box = panel.bounding_box()
    assert box is not None
    assert (box["x"], box["width"], round(box["y"] + box["height"])) == (0, 360, 640)
    panel.get_by_text("Square").tap()
    tab.page.get_by_role("button", name="Show images").tap()
    expect(panel).to_be_hidden()
    expect(tab.page.locator("#active-filters")).to_contain_text("Square")
    assert tab.page.evaluate("document.documentElement.scrollWidth") == 360


def test_filters_that_come_and_go_move_nothing_on_a_phone(open_tab: OpenTab) -> None:
    tab = open_tab("/?bucket=many", width=360, height=840, is_mobile=True, has_touch=True)
    ready(tab.page)
    tab.page.locator("#filters summary").tap()
    panel = tab.page.get_by_role("form", name="Filters")
    panel.get_by_label("Camera").select_option(CAMERA)
    panel.get_by_text("Portrait").tap()
    panel.get_by_label("Width").fill("201")
    tab.page.get_by_role("button", name="Show images").tap()
    active = tab.page.locator("#active-filters .filter-chip")
    expect(active).to_have_count(3)
    ready(tab.page)
    assert tab.page.evaluate("[innerWidth, document.documentElement.scrollWidth]") == [360, 360]
    active.last.tap()
    expect(active).to_have_count(2)
    tab.page.locator("#active-filters").get_by_role("link", name="Clear all").tap()
    expect(active).to_have_count(0)
    ready(tab.page)
    assert tab.moves == []


def test_filters_work_without_javascript(open_tab: OpenTab, site: Site) -> None:
    tab = open_tab("/?bucket=many", java_script_enabled=False)
    tab.page.locator("#filters summary").click()
    tab.page.get_by_text("Landscape").click()
    tab.page.get_by_label("Width").fill("500")
    tab.page.get_by_role("button", name="Show images").click()
    expect(tab.page.locator("#active-filters .filter-chip")).to_have_count(2)
    assert tab.names() == expected(site, orientation="landscape", min_width="500", limit="30")
    tab.page.get_by_role("link", name=re.compile("At least 500 px wide")).click()
    expect(tab.page.locator("#active-filters .filter-chip")).to_have_count(1)
    assert tab.names() == expected(site, orientation="landscape", limit="30")
    tab.page.get_by_role("link", name="More", exact=True).click()
    expect(tab.page).to_have_url(re.compile("orientation=landscape.*cursor="))
    assert tab.names()[0] not in expected(site, orientation="landscape", limit="30")

    tab.page.goto(site("/?bucket=many"))
    tab.page.locator("#filters summary").click()
    tab.page.get_by_role("link", name="Show options").click()
    tab.page.get_by_label("Camera").select_option(CAMERA)
    tab.page.get_by_role("button", name="Show images").click()
    expect(tab.page.locator("#active-filters")).to_contain_text(CAMERA)
    assert tab.names() == expected(site, camera=CAMERA)
