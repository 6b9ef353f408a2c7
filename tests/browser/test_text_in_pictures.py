"""The text in pictures above the enlarged image, in Chromium."""

from collections.abc import Iterator
from typing import Any

import pytest
from playwright.sync_api import expect

from tests.browser.conftest import OpenTab, Site
from tests.helpers.pictures import encode, lettering

pytestmark = [pytest.mark.browser, pytest.mark.xdist_group("browser")]


@pytest.fixture(scope="module")
def receipt(site: Site, tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Any]]:
    """The first image of the collection ``words``."""
    folder = tmp_path_factory.mktemp("words")
    (folder / "exit.jpg").write_bytes(encode(lettering("EXIT", size=90)))
    (folder / "receipt.jpg").write_bytes(encode(lettering("Invoice 4711\nTotal 47,11 EUR", size=60, tilt=8)))
    synced = site.syncer("sync", folder, "--bucket", "words", OCR="on")
    assert synced.status == 0, synced.stderr
    yield site.server.get("/api/search", bucket="words", q="invoice")["images"][0]
    assert site.syncer("drop", "--bucket", "words", "--yes").status == 0


def test_words_of_the_query_are_marked_where_they_are(open_gallery: OpenTab, receipt: dict[str, Any]) -> None:
    # "jpeg" becomes a filter.
    tab = open_gallery(f"/?bucket=words&q=total+47,11+jpeg&view={receipt['id']}")
    layer = tab.page.locator(".text-layer")
    expect(layer.locator("text")).to_have_text(["Invoice 4711", "Total 47,11 EUR"])
    expect(layer.locator("rect")).to_have_count(3)  # total, 47 and 11
    picture = tab.page.locator(".pswp__item[aria-hidden=false] img.pswp__img").last.bounding_box()
    marked = layer.locator("rect").first.bounding_box()
    assert picture
    assert marked
    # "Total" begins at (60, 150) of 800 x 400 pixels before the picture is turned by 8 degrees.
    assert (marked["x"] - picture["x"]) / picture["width"] == pytest.approx(0.07, abs=0.03)
    assert (marked["y"] - picture["y"]) / picture["height"] == pytest.approx(0.42, abs=0.1)

    tab.page.keyboard.press("ArrowRight")
    expect(tab.page.locator(".pswp__item[aria-hidden=false] .text-layer text")).to_have_text(["EXIT"])
    expect(tab.page.locator(".pswp__item[aria-hidden=false] .text-layer rect")).to_have_count(0)


def test_text_is_selected_with_the_mouse_and_listed_in_the_details(
    open_gallery: OpenTab, receipt: dict[str, Any]
) -> None:
    tab = open_gallery(f"/?bucket=words&view={receipt['id']}")
    line = tab.page.locator(".text-layer text").first
    line.click(click_count=3)
    assert tab.page.evaluate("getSelection().toString().trim()") == "Invoice 4711"
    tab.page.keyboard.press("i")
    expect(tab.page.locator(".lightbox-details")).to_contain_text("Invoice 4711\nTotal 47,11 EUR")
    expect(line).to_be_visible()


def test_the_text_follows_the_picture_when_it_is_zoomed(open_gallery: OpenTab, receipt: dict[str, Any]) -> None:
    tab = open_gallery(f"/?bucket=words&view={receipt['id']}")
    line = tab.page.locator(".text-layer text").first
    expect(line).to_be_visible()
    ratio = """([line, picture]) =>
      line.getBoundingClientRect().width / picture.getBoundingClientRect().width"""
    picture = tab.page.locator(".pswp__item[aria-hidden=false] img.pswp__img").last
    before = tab.page.evaluate(ratio, [line.element_handle(), picture.element_handle()])
    width = picture.evaluate("(image) => image.getBoundingClientRect().width")
    tab.page.keyboard.press("+")
    tab.page.wait_for_function(
        "([image, width]) => image.getBoundingClientRect().width > 1.4 * width", arg=[picture.element_handle(), width]
    )
    after = tab.page.evaluate(ratio, [line.element_handle(), picture.element_handle()])
    assert after == pytest.approx(before, rel=0.02)
