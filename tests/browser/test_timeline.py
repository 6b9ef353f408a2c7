"""Lists by date taken: the menu of orders, headings of months, and the scrubber."""

import re
from collections.abc import Iterator
from datetime import datetime, timedelta

import pytest
from PIL import ExifTags, Image
from playwright.sync_api import Page, expect

from tests.browser.conftest import OpenTab, Site, Tab, parameters, ready
from tests.helpers.pictures import noise

FIRST = datetime(2010, 1, 15, 12)
MONTHS = 100
PER_MONTH = 4
COUNT = MONTHS * PER_MONTH
UNDATED = 5


@pytest.fixture(scope="module")
def dated(site: Site, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The bucket of images taken over a hundred months, from 2010 on, some without a date."""
    folder = tmp_path_factory.mktemp("dated")
    for number in range(COUNT + UNDATED):
        exif = Image.Exif()
        if number < COUNT:
            taken = taken_at(number).strftime("%Y:%m:%d %H:%M:%S")
            exif.get_ifd(ExifTags.IFD.Exif)[ExifTags.Base.DateTimeOriginal] = taken
        noise(number, [(60, 40), (40, 60), (50, 50)][number % 3]).save(folder / f"{number:03}.jpg", exif=exif)
    done = site.syncer("upload", folder, "--bucket", "dated", timeout=240)
    assert done.status == 0, done.stderr
    yield "dated"
    site.syncer("drop", "--bucket", "dated", "--yes")


def taken_at(number: int) -> datetime:
    month, hours = divmod(number, PER_MONTH)
    return FIRST.replace(year=2010 + month // 12, month=month % 12 + 1) + timedelta(hours=hours)


def wait_for_month(page: Page, name: str) -> None:
    expect(page.locator(".month", has_text=name)).to_be_in_viewport()


def assert_rows(tab: Tab) -> None:
    """Assert that tiles follow each other in rows, from left to right, without overlapping."""
    tiles = tab.tiles()
    for before, after in zip(tiles, tiles[1:], strict=False):
        assert after.left >= before.right or after.top >= before.bottom


@pytest.mark.parametrize(("width", "height"), [(1280, 800), (390, 800)])
def test_a_list_by_date_taken_has_months_and_jumps_to_any(
    open_gallery: OpenTab, dated: str, width: int, height: int
) -> None:
    tab = open_gallery(f"/?bucket={dated}", width=width, height=height)
    page = tab.page
    page.locator("#sort-menu summary").click()
    page.get_by_role("link", name="Date taken, newest first").click()
    wait_for_month(page, "April 2018")
    assert parameters(page)["sort"] == "-taken"
    expect(page.locator("#count")).to_contain_text("405")
    assert_rows(tab)
    month = page.get_by_role("slider", name="Month")
    month.focus()
    page.keyboard.press("End")
    wait_for_month(page, "No date")
    for _ in range(50):
        page.keyboard.press("ArrowUp")
    page.wait_for_url("**&month=2014-02")
    wait_for_month(page, "February 2014")
    expect(month).to_have_attribute("aria-valuetext", "February 2014, 4 images")
    # The months before have been loaded above.
    page.mouse.move(100, 400)
    page.mouse.wheel(0, -1500)
    expect(page.locator(".month", has_text="February 2014")).not_to_be_in_viewport()
    assert_rows(tab)
    assert tab.shifts == []


def test_the_address_of_a_month_opens_it_and_a_reload_returns_to_the_same_row(
    open_gallery: OpenTab, dated: str
) -> None:
    tab = open_gallery(f"/?bucket={dated}&sort=taken&month=2014-05")
    page = tab.page
    wait_for_month(page, "May 2014")
    page.mouse.move(600, 400)
    page.mouse.wheel(0, -2500)
    expect(page).not_to_have_url(re.compile("month=2014-05"))
    name = page.evaluate("history.state.position.id")
    page.reload()
    ready(page)
    expect(page.locator(f'.tile[data-id="{name}"]')).to_be_in_viewport()
    assert tab.shifts == []


def test_a_search_can_be_sorted_by_date_and_returned_to_relevance(open_gallery: OpenTab) -> None:
    page = open_gallery("/?bucket=photos&q=a+cat&sort=-taken").page
    expect(page.locator(".timeline")).to_be_hidden()
    expect(page.locator(".month").first).to_be_visible()
    page.locator("#sort-menu summary").click()
    page.get_by_role("link", name="Relevance").click()
    page.wait_for_url("**/?bucket=photos&q=a+cat")
    expect(page.locator(".month")).to_have_count(0)
