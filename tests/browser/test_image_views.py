"""Similar images, the image viewer and the keyboard in Chromium."""

import pytest
from playwright.sync_api import expect

from tests.browser.conftest import CAMERA, OpenTab, Site, file_name, parameters

pytestmark = [pytest.mark.browser, pytest.mark.xdist_group("browser")]


def test_a_click_shows_the_image_above_similar_ones(open_gallery: OpenTab, site: Site) -> None:
    tab = open_gallery("/?bucket=photos&q=a+cat")
    cat = site.server.get("/api/search", bucket="photos", q="a cat", limit=1)["images"][0]
    tab.page.locator(".tile-link").first.click()
    expect(tab.page.locator(".detail-name")).to_have_text(file_name(cat["key"]))
    expect(tab.page.locator(".detail-facts")).to_contain_text("MP")
    assert parameters(tab.page) == {"bucket": "photos", "similar": str(cat["id"])}
    expected = [file_name(k) for k in site.server.keys(f"/api/images/{cat['id']}/similar", bucket="photos")]
    assert tab.names() == expected[: len(tab.names())]
    path = tab.page.url.removeprefix(site.server.url)

    tab.page.keyboard.press("Escape")
    expect(tab.page.locator("#title")).to_contain_text("a cat")
    fresh = open_gallery(path)
    expect(fresh.page.locator(".detail-image")).to_be_visible()
    assert fresh.names() == expected[: len(fresh.names())]
    assert fresh.shifts == []
    fresh.page.get_by_role("link", name="Close").click()
    expect(fresh.page.locator("#title")).to_have_text("Recent")


def test_the_image_viewer_steps_through_the_list(open_gallery: OpenTab, site: Site) -> None:
    tab = open_gallery("/?bucket=photos")
    images = site.server.get("/api/images", bucket="photos")["images"]
    tab.page.locator(".tile").nth(1).hover()
    tab.page.get_by_role("button", name="Enlarge").nth(1).click()
    lightbox = tab.page.locator("#lightbox")
    expect(lightbox).to_be_visible()
    assert parameters(tab.page)["view"] == str(images[1]["id"])
    tab.page.keyboard.press("ArrowRight")
    tab.page.keyboard.press("ArrowRight")
    tab.page.keyboard.press("ArrowLeft")
    expect(lightbox.locator(".lightbox-image")).to_have_attribute("src", images[2]["preview_url"])
    tab.page.keyboard.press("i")
    expect(lightbox.locator(".lightbox-details")).to_contain_text("Size")
    assert parameters(tab.page)["view"] == str(images[2]["id"])

    tab.page.reload()
    expect(lightbox).to_be_visible()
    expect(lightbox.locator(".lightbox-image")).to_have_attribute("src", images[2]["preview_url"])
    tab.page.keyboard.press("Escape")
    expect(lightbox).to_be_hidden()
    expect(tab.page.locator(".tile-link").nth(2)).to_be_focused()
    assert "view" not in parameters(tab.page)


def test_the_keyboard_reaches_everything(open_gallery: OpenTab) -> None:
    tab = open_gallery("/?bucket=photos")
    keyboard = tab.page.keyboard
    keyboard.press("ArrowDown")
    expect(tab.page.locator(".tile-link").nth(0)).to_be_focused()
    keyboard.press("ArrowRight")
    expect(tab.page.locator(".tile-link").nth(1)).to_be_focused()
    assert tab.page.locator(".tile-link[tabindex='0']").count() == 1, "the grid is one tab stop"
    keyboard.press("ArrowDown")
    below, above = tab.page.evaluate(
        """() => [document.activeElement, document.querySelectorAll(".tile-link")[1]]
              .map((link) => link.getBoundingClientRect().left)"""
    )
    assert below == above
    keyboard.press("End")
    last = tab.page.locator(":focus")
    expect(last).to_be_in_viewport()
    name = last.locator("img").get_attribute("alt")
    keyboard.press(" ")
    expect(tab.page.locator("#lightbox")).to_be_visible()
    keyboard.press("Escape")
    expect(tab.page.locator(":focus img")).to_have_attribute("alt", name or "")
    keyboard.press("Enter")
    expect(tab.page.locator(".detail-name")).to_have_text(name or "")
    keyboard.press("Escape")
    expect(tab.page.locator(".detail")).to_have_count(0)
    keyboard.press("?")
    expect(tab.page.locator("#keyboard-help")).to_be_visible()
    keyboard.press("Escape")
    expect(tab.page.locator("#keyboard-help")).to_be_hidden()
    keyboard.press("/")
    expect(tab.page.locator("#q")).to_be_focused()


def test_the_exposure_is_formatted(open_tab: OpenTab, site: Site) -> None:
    image = site.server.get("/api/images", bucket="many", camera=CAMERA, limit=1)["images"][0]
    tab = open_tab(f"/?bucket=many&similar={image['id']}")
    expect(tab.page.locator(".detail-facts")).to_contain_text("1/125 s · ƒ/2.8 · ISO 400 · 35 mm")
