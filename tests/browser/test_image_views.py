"""Similar images, the image viewer and the keyboard in Chromium."""

from collections.abc import Iterator
from typing import Any

import pytest
from playwright.sync_api import CDPSession, Locator, Page, expect

from tests.browser.conftest import CAMERA, MANY_COUNT, OpenTab, Site, all_images, file_name, parameters
from tests.helpers.pictures import picture

pytestmark = [pytest.mark.browser, pytest.mark.xdist_group("browser")]


def shown_picture(page: Page) -> Locator:
    """The picture in the middle of the viewer."""
    return page.locator(".pswp__item[aria-hidden=false] img.pswp__img:not(.pswp__img--placeholder)")


def test_the_similar_images_of_an_image_are_below_it(open_gallery: OpenTab, site: Site) -> None:
    tab = open_gallery("/?bucket=photos&q=a+cat")
    cat = site.server.get("/api/search", bucket="photos", q="a cat", limit=1)["images"][0]
    tab.page.locator(".tile").first.hover()
    tab.page.get_by_role("button", name="Similar images").first.click()
    expect(tab.page.locator(".detail-name")).to_have_text(file_name(cat["key"]))
    expect(tab.page.locator(".detail-facts")).to_contain_text("MP")
    expect(tab.page.locator(".detail-facts")).not_to_contain_text("Similarity")
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
    tab.page.locator(".tile-link").nth(1).click()
    lightbox = tab.page.locator("#lightbox")
    expect(lightbox).to_be_visible()
    assert parameters(tab.page)["view"] == str(images[1]["id"])
    expect(shown_picture(tab.page)).to_have_attribute("src", images[1]["preview_url"])
    for key in ("ArrowRight", "ArrowRight", "ArrowLeft"):
        tab.page.keyboard.press(key)
    expect(shown_picture(tab.page)).to_have_attribute("src", images[2]["preview_url"])
    expect(lightbox.locator(".lightbox-position")).to_have_text(f"3 of {len(images)}")
    tab.page.keyboard.press("i")
    expect(lightbox.locator(".lightbox-details")).to_contain_text("Size")
    assert parameters(tab.page)["view"] == str(images[2]["id"])

    tab.page.reload()
    expect(shown_picture(tab.page)).to_have_attribute("src", images[2]["preview_url"])
    tab.page.keyboard.press("Escape")
    expect(lightbox).to_be_hidden()
    expect(tab.page.locator(".tile-link").nth(2)).to_be_focused()
    assert "view" not in parameters(tab.page)


def test_the_count_is_that_of_the_collection_before_all_pages_are_loaded(open_gallery: OpenTab) -> None:
    tab = open_gallery("/?bucket=many")
    tab.page.locator(".tile-link").first.focus()
    tab.page.keyboard.press(" ")
    expect(tab.page.locator(".lightbox-position")).to_have_text(f"1 of {MANY_COUNT}")


def test_an_image_far_down_opens_by_its_address_between_its_neighbours(open_tab: OpenTab, site: Site) -> None:
    images = all_images(site)
    tab = open_tab(f"/?bucket=many&view={images[120]['id']}")
    expect(shown_picture(tab.page)).to_have_attribute("src", images[120]["preview_url"])
    for position in (119, 118):
        tab.page.get_by_role("button", name="Previous image").click()
        expect(shown_picture(tab.page)).to_have_attribute("src", images[position]["preview_url"])
    for position in (119, 120, 121):
        tab.page.get_by_role("button", name="Next image").click()
        expect(shown_picture(tab.page)).to_have_attribute("src", images[position]["preview_url"])
    assert parameters(tab.page)["view"] == str(images[121]["id"])


@pytest.fixture(scope="module")
def large(site: Site, tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Any]]:
    """The image of the collection ``large``, which is larger than its preview."""
    folder = tmp_path_factory.mktemp("large")
    (folder / "large.jpg").write_bytes(picture(1, (4000, 3000)))
    assert site.syncer("upload", folder, "--bucket", "large").status == 0
    yield site.server.get("/api/images", bucket="large")["images"][0]
    assert site.syncer("drop", "--bucket", "large", "--yes").status == 0


@pytest.mark.parametrize("way", ["wheel", "double click", "keys"])
def test_zooming_shows_the_original(open_gallery: OpenTab, site: Site, large: dict[str, Any], way: str) -> None:
    tab = open_gallery(f"/?bucket=large&view={large['id']}", width=1000)
    shown = shown_picture(tab.page)
    expect(shown).to_be_visible()
    assert large["url"] not in tab.requests
    fitted = shown.evaluate("(image) => image.getBoundingClientRect().width")
    if way == "wheel":
        tab.page.mouse.move(500, 400)
        tab.page.mouse.wheel(0, -1500)
    elif way == "double click":
        tab.page.mouse.dblclick(500, 400)
    else:
        for _ in range(3):
            tab.page.keyboard.press("+")
    element = shown.element_handle()
    tab.page.wait_for_function("([image, url]) => image.currentSrc === url", arg=[element, site(large["url"])])
    has_width = (
        "([image, least, most]) => ((width) => width > least && width < most)(image.getBoundingClientRect().width)"
    )
    tab.page.wait_for_function(has_width, arg=[element, 2 * fitted, 20 * fitted])
    left = tab.page.evaluate("(image) => image.getBoundingClientRect().left", element)
    tab.page.keyboard.press("ArrowRight")
    # Arrows pan a zoomed picture.
    tab.page.wait_for_function("([image, left]) => image.getBoundingClientRect().left < left", arg=[element, left])
    assert parameters(tab.page)["view"] == str(large["id"])
    tab.page.keyboard.press("0")
    tab.page.wait_for_function(has_width, arg=[element, 0, fitted + 1])


def test_a_long_press_shows_the_buttons_of_a_tile(open_gallery: OpenTab) -> None:
    tab = open_gallery("/?bucket=photos", width=390, height=844, is_mobile=True, has_touch=True)
    similar = tab.page.locator(".tile-similar")
    expect(similar.first).to_be_hidden()
    session = tab.page.context.new_cdp_session(tab.page)
    touch(session, "touchStart", 100)
    expect(tab.page.locator(".has-tools .tile-similar")).to_be_visible()
    touch(session, "touchEnd", 0)
    expect(tab.page.locator("#lightbox")).to_be_hidden()
    assert similar.evaluate_all("(all) => all.filter((button) => button.checkVisibility()).length") == 1
    tab.page.locator(".has-tools .tile-similar").tap()
    expect(tab.page.locator(".detail")).to_be_visible()
    tab.page.locator(".tile-link").first.tap()
    expect(tab.page.locator("#lightbox")).to_be_visible()


def touch(session: CDPSession, kind: str, x: float) -> None:
    points = [] if kind == "touchEnd" else [{"x": x, "y": 400}]
    session.send("Input.dispatchTouchEvent", {"type": kind, "touchPoints": points})


def test_a_swipe_follows_the_finger_to_the_next_image(open_gallery: OpenTab, site: Site) -> None:
    images = site.server.get("/api/images", bucket="photos")["images"]
    tab = open_gallery(f"/?bucket=photos&view={images[0]['id']}", width=390, height=844, is_mobile=True, has_touch=True)
    expect(shown_picture(tab.page)).to_be_visible()
    session = tab.page.context.new_cdp_session(tab.page)
    left = "document.querySelector('.pswp__item[aria-hidden=false]').getBoundingClientRect().left"
    touch(session, "touchStart", 330)
    for x in range(320, 60, -20):
        touch(session, "touchMove", x)
    tab.page.wait_for_function(f"() => {left} < -220")
    touch(session, "touchEnd", 0)
    expect(shown_picture(tab.page)).to_have_attribute("src", images[1]["preview_url"])
    assert parameters(tab.page)["view"] == str(images[1]["id"])


def test_the_original_is_downloaded_and_the_link_copied(open_gallery: OpenTab, site: Site) -> None:
    image = site.server.get("/api/images", bucket="photos")["images"][0]
    tab = open_gallery(f"/?bucket=photos&view={image['id']}")
    tab.page.context.grant_permissions(["clipboard-read", "clipboard-write"])
    with tab.page.expect_download() as download:
        tab.page.get_by_role("link", name="Download original").click()
    assert download.value.suggested_filename == file_name(image["key"])
    assert download.value.path().stat().st_size == image["size"]
    tab.page.get_by_role("button", name="Copy link").click()
    expect(tab.page.get_by_text("Link copied")).to_be_visible()
    assert tab.page.evaluate("navigator.clipboard.readText()") == tab.page.url


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
    keyboard.press("s")
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
