"""The filters in Chromium."""

import re
from urllib.parse import urlencode

import pytest
from playwright.sync_api import Page, expect

from tests.browser.conftest import CAMERA, MANY_COUNT, OpenTab, Site, file_name, parameters, ready

pytestmark = [pytest.mark.browser, pytest.mark.xdist_group("browser")]


def expected(site: Site, **filters: str) -> list[str]:
    """The file names of the first images with these filters."""
    return [file_name(key) for key in site.server.keys("/api/images", bucket="many", **filters)]


def expect_end(page: Page, count: int) -> None:
    expect(page.locator("#end-of-list")).to_have_text(f"{count} images")


def test_filters_apply_at_once_and_are_part_of_the_url(open_gallery: OpenTab, site: Site) -> None:
    tab = open_gallery("/?bucket=many")
    tab.page.locator("#filters summary").click()
    panel = tab.page.get_by_role("form", name="Filters")
    panel.get_by_label("Camera").select_option(CAMERA)
    active = tab.page.locator("#active-filters .filter-chip")
    expect(active).to_have_text([re.compile(CAMERA)])
    assert parameters(tab.page) == {"bucket": "many", "camera": CAMERA}
    expect_end(tab.page, len(expected(site, camera=CAMERA, limit="200")))
    panel.get_by_text("Portrait").click()
    expect(active).to_have_count(2)
    names = expected(site, camera=CAMERA, orientation="portrait")
    assert names
    expect(panel.get_by_label("Camera")).to_contain_text(f"{CAMERA} ({len(names)})")
    tab.page.keyboard.press("Escape")
    expect(panel).to_be_hidden()
    expect(tab.page.locator("#count")).to_have_text(f"{len(names)} images")
    expect_end(tab.page, len(names))
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
    expect(tab.page.locator("#count")).to_have_text(f"{MANY_COUNT} images")


def test_each_value_of_a_filter_has_a_chip_and_outlasts_a_change_of_another(open_gallery: OpenTab) -> None:
    address = {"not_folder": ["none"], "type": ["image/png", "image/jpeg"], "max_width": ["9999"]}
    tab = open_gallery("/?bucket=many&" + urlencode(address, doseq=True))
    chips = tab.page.locator("#active-filters .filter-chip")
    expect(chips).to_have_text(["Not in none", "PNG", "JPEG", "At most 9999 px wide"])
    tab.page.locator("#filters summary").click()
    tab.page.get_by_role("form", name="Filters").get_by_text("Portrait").click()
    expect(chips).to_have_count(5)
    tab.page.keyboard.press("Escape")
    chips.get_by_text("PNG").click()
    expect(chips).to_have_text(["Not in none", "Portrait", "JPEG", "At most 9999 px wide"])
    tab.page.reload()
    ready(tab.page)
    expect(chips).to_have_text(["Not in none", "Portrait", "JPEG", "At most 9999 px wide"])


def test_colours_are_chosen_by_swatches(open_tab: OpenTab) -> None:
    tab = open_tab("/?bucket=many&colour=mostly-blue")
    tab.page.locator("#filters summary").click()
    panel = tab.page.get_by_role("form", name="Filters")
    chips = tab.page.locator("#active-filters .filter-chip")
    for colour in ("Red", "Blue"):
        panel.get_by_role("checkbox", name=colour).check(force=True)
    expect(chips).to_have_text(["Mostly Blue", "Red", "Blue"])
    expect(panel.get_by_title(re.compile(r"Red \([0-9]+\)"))).to_be_visible()
    panel.get_by_role("checkbox", name="Red").uncheck(force=True)
    expect(chips).to_have_text(["Mostly Blue", "Blue"])
    tab.page.keyboard.press("Escape")
    tab.page.reload()
    expect(chips).to_have_text(["Mostly Blue", "Blue"])
    chips.last.click()
    expect(chips).to_have_text(["Mostly Blue"])


def test_a_date_is_applied_once_it_is_typed(open_gallery: OpenTab) -> None:
    tab = open_gallery("/?bucket=many")
    entries = tab.page.evaluate("history.length")
    tab.page.locator("#filters summary").click()
    tab.page.get_by_label("From").focus()
    tab.page.keyboard.type("05312023", delay=60)
    expect(tab.page.locator("#active-filters")).to_contain_text("2023")
    assert parameters(tab.page)["taken_after"] == "2023-05-31"
    assert len([path for path in tab.requests if path.startswith("/api/images") and "taken_after" in path]) == 1
    assert tab.page.evaluate("history.length") == entries + 1


def test_the_last_day_is_part_of_the_address_and_filters_without_a_field_are_kept(open_gallery: OpenTab) -> None:
    tab = open_gallery("/?bucket=many&max_width=500")
    tab.page.locator("#filters summary").click()
    tab.page.get_by_label("Until").fill("2024-05-31")
    chips = tab.page.locator("#active-filters")
    expect(chips).to_contain_text("Taken until 2024-05-31")
    expect(chips).to_contain_text("At most 500 px wide")
    assert parameters(tab.page) == {"bucket": "many", "max_width": "500", "taken_until": "2024-05-31"}


def test_filters_without_matches_can_be_cleared(open_tab: OpenTab) -> None:
    tab = open_tab("/?bucket=photos&q=a+cat&min_width=100000")
    expect(tab.page.locator("#empty")).to_contain_text("No images match these filters")
    expect(tab.page.locator("#active-filters")).to_contain_text("At least 100000 px wide")
    tab.page.get_by_role("link", name="Clear filters").click()
    ready(tab.page)
    assert parameters(tab.page) == {"bucket": "photos", "q": "a cat"}


def test_the_filter_panel_is_a_sheet_on_a_phone_and_causes_no_layout_shifts(open_gallery: OpenTab) -> None:
    tab = open_gallery("/?bucket=many", width=360, height=840, is_mobile=True, has_touch=True)
    tab.page.locator("#filters summary").tap()
    panel = tab.page.get_by_role("form", name="Filters")
    box = panel.bounding_box()
    assert box is not None
    assert (box["x"], box["width"], round(box["y"] + box["height"])) == (0, 360, 840)
    panel.get_by_label("Camera").select_option(CAMERA)
    panel.get_by_text("Portrait").tap()
    panel.get_by_label("Width").fill("201")
    tab.page.get_by_role("button", name="Show images").tap()
    expect(panel).to_be_hidden()
    chips = tab.page.locator("#active-filters .filter-chip")
    expect(chips).to_have_count(3)
    ready(tab.page)
    assert tab.page.evaluate("[innerWidth, document.documentElement.scrollWidth]") == [360, 360]
    chips.last.tap()
    expect(chips).to_have_count(2)
    tab.page.locator("#active-filters").get_by_role("link", name="Clear all").tap()
    expect(chips).to_have_count(0)
    ready(tab.page)
    assert tab.all_shifts == []


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
    expect(tab.page.locator("#count")).to_have_text("More than 30 images")
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
