"""Words that become filters, and suggestions while they are typed, in Chromium."""

import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from PIL import Image
from playwright.sync_api import expect

from tests.browser.conftest import CAMERA, OpenTab, Site, Tab, file_name, parameters, ready
from tests.helpers.pictures import noise

pytestmark = [pytest.mark.browser, pytest.mark.xdist_group("browser")]

SNOW = [("snow at home", "NIKON D850", 2021), ("snow on the roof", "NIKON D90", 2019), ("snow in town", "X100V", 2021)]
GALLERY = "/?bucket=snow&q=snow+2021+nikon"


@pytest.fixture(scope="module", autouse=True)
def snow(site: Site, tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """The collection ``snow`` of photos with cameras and dates."""
    folder: Path = tmp_path_factory.mktemp("snow")
    for number, (name, camera, year) in enumerate(SNOW):
        exif = Image.Exif()
        exif[0x0110] = camera
        exif.get_ifd(0x8769)[0x9003] = f"{year}:06:15 12:00:00"
        noise(number, (480, 320)).save(folder / f"{name}.jpg", exif=exif)
    done = site.syncer("sync", folder, "--bucket", "snow")
    assert done.status == 0, done.stderr
    yield
    site.syncer("drop", "--bucket", "snow", "--yes")


def expect_snow_2021_nikon(tab: Tab) -> None:
    expect(tab.page.locator("#title")).to_have_text("Results for snow")
    expect(tab.page.locator("#understood bdi")).to_have_text(["2021", "nikon"])
    expect(tab.page.locator(".tile")).to_have_count(1)
    assert tab.names() == ["snow at home.jpg"]


@pytest.mark.parametrize("width", [1280, 390])
@pytest.mark.parametrize("with_scripts", [True, False])
def test_words_a_year_and_a_camera_find_the_photo(open_tab: OpenTab, width: int, with_scripts: bool) -> None:
    tab = open_tab(GALLERY, width=width, java_script_enabled=with_scripts)
    expect(tab.page.locator("#title")).to_have_text("Results for snow")
    expect(tab.page.locator("#understood bdi")).to_have_text(["2021", "nikon"])
    expect(tab.page.locator(".tile-image")).to_have_count(1)
    expect(tab.page.locator(".tile-image")).to_have_attribute("alt", "snow at home.jpg")


def test_typed_words_become_chips_without_a_change_of_the_field(open_gallery: OpenTab) -> None:
    tab = open_gallery("/?bucket=snow")
    tab.page.locator("#q").fill("snow 2021 nikon")
    tab.page.keyboard.press("Enter")
    expect_snow_2021_nikon(tab)
    assert tab.page.locator("#q").input_value() == "snow 2021 nikon"
    assert tab.shifts == []


def test_a_click_on_a_chip_turns_it_back_into_words_and_another_restores_it(open_gallery: OpenTab) -> None:
    tab = open_gallery(GALLERY)
    tab.page.locator("#understood .understood-words", has_text="nikon").click()
    expect(tab.page.locator("#title")).to_have_text("Results for snow nikon")
    expect(tab.page.locator("#understood bdi")).to_have_text(["2021", "“nikon” as words"])
    assert parameters(tab.page) == {"bucket": "snow", "q": "snow 2021 nikon", "literal": "nikon"}
    expect(tab.page.locator(".tile")).to_have_count(2)
    tab.page.reload()
    ready(tab.page)
    expect(tab.page.locator("#understood bdi")).to_have_text(["2021", "“nikon” as words"])
    tab.page.locator(".literal-chip a").click()
    expect_snow_2021_nikon(tab)
    tab.page.go_back()
    expect(tab.page.locator("#understood bdi")).to_have_text(["2021", "“nikon” as words"])


def test_the_cross_of_a_chip_removes_its_words(open_gallery: OpenTab) -> None:
    tab = open_gallery(GALLERY)
    tab.page.get_by_role("link", name="Remove nikon").click()
    expect(tab.page.locator("#understood bdi")).to_have_text(["2021"])
    assert tab.page.locator("#q").input_value() == "snow 2021"
    tab.page.get_by_role("link", name="Remove 2021").click()
    expect(tab.page.locator("#understood")).to_be_hidden()
    assert parameters(tab.page) == {"bucket": "snow", "q": "snow"}


def test_filters_alone_list_images_and_an_empty_list_offers_the_words(open_gallery: OpenTab) -> None:
    tab = open_gallery("/?bucket=snow&q=nikon")
    expect(tab.page.locator("#title")).to_have_text("All images")
    expect(tab.page.locator(".tile")).to_have_count(2)
    tab.page.locator("#q").fill("summer 1990")
    tab.page.keyboard.press("Enter")
    expect(tab.page.locator("#empty")).to_contain_text("No images match these filters")
    tab.page.get_by_role("link", name="Search for the words instead").and_(tab.page.locator("#empty a")).click()
    ready(tab.page)
    assert parameters(tab.page) == {"bucket": "snow", "q": "summer 1990", "parse": "0"}
    expect(tab.page.locator("#understood")).to_be_hidden()


def test_select_all_selects_the_images_of_a_parsed_search(open_gallery: OpenTab) -> None:
    tab = open_gallery("/?bucket=snow&q=nikon")
    tab.page.locator("#start-selection").click()
    tab.page.get_by_role("button", name="Select all").click()
    expect(tab.page.locator("#selection")).to_contain_text("2")


def test_suggestions_are_chosen_with_the_keyboard(open_gallery: OpenTab, site: Site) -> None:
    tab = open_gallery("/?bucket=many")
    field = tab.page.get_by_role("combobox", name="Describe the images to find")
    field.press_sequentially("zebra came")
    option = tab.page.locator("#suggestions").get_by_role("option")
    expect(option).to_have_text([f"{CAMERA}Camera · 15"])
    expect(field).to_have_attribute("aria-expanded", "true")
    field.press("ArrowDown")
    expect(option).to_have_attribute("aria-selected", "true")
    field.press("Escape")
    expect(option).to_have_count(0)
    expect(field).to_have_value("zebra came")
    field.fill("")
    with tab.page.expect_response(re.compile(r"/api/suggest\?.*\bq=cam\b")):
        field.press_sequentially("cam")
    expect(option).to_have_count(1)
    field.press("ArrowDown")
    expect(option).to_have_attribute("aria-selected", "true")
    field.press("Enter")
    expect(tab.page.locator("#understood bdi")).to_have_text([CAMERA])
    keys = site.server.keys("/api/images", bucket="many", camera=CAMERA, limit="200")
    assert tab.names() == [file_name(key) for key in keys]


def test_a_suggestion_is_tapped_on_a_phone(open_gallery: OpenTab) -> None:
    tab = open_gallery("/?bucket=many", width=360, height=740, is_mobile=True, has_touch=True)
    tab.page.locator("#q").press_sequentially("picture_00")
    option = tab.page.locator("#suggestions").get_by_role("option")
    expect(option.first).to_have_text("picture_000Name · 1")
    box = option.first.bounding_box()
    assert box
    assert box["height"] >= 40
    assert 0 <= box["x"] <= 360 - box["width"]
    option.first.tap()
    expect(tab.page.locator("#title")).to_contain_text("picture_000")
    expect(option).to_have_count(0)


def test_recent_searches_are_suggested_before_the_values_of_the_collection(open_gallery: OpenTab) -> None:
    tab = open_gallery("/?bucket=many")
    tab.page.locator("#q").fill("camera on a table")
    tab.page.keyboard.press("Enter")
    tab.page.locator("#q").fill("")
    tab.page.locator("#q").press_sequentially("came")
    texts = ["camera on a tableRecent search", f"{CAMERA}Camera · 15"]
    expect(tab.page.locator("#suggestions").get_by_role("option")).to_have_text(texts)
