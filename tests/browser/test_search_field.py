"""The search field in Chromium: words and images, included or excluded."""

import base64
import re
from pathlib import Path

import pytest
from playwright.sync_api import Page, Route, expect

from tests.browser.conftest import OpenTab, Site, all_terms, file_name, parameters, ready

pytestmark = [pytest.mark.browser, pytest.mark.xdist_group("browser")]

ENTER_FILE = {
    "drop": """([transfer]) => {
      for (const kind of ["dragenter", "dragover", "drop"])
        document.body.dispatchEvent(new DragEvent(kind, { dataTransfer: transfer, bubbles: true, cancelable: true }));
    }""",
    "paste": """([transfer]) => document.body.dispatchEvent(
      new ClipboardEvent("paste", { clipboardData: transfer, bubbles: true, cancelable: true }))""",
}


def choose(page: Page, path: Path) -> None:
    """Choose a file with the button."""
    with page.expect_file_chooser() as chooser:
        page.get_by_role("button", name="Search by image").click()
    chooser.value.set_files(path)


def enter(page: Page, way: str, path: Path) -> None:
    """Enter an image with the button, by dropping it, or by pasting it."""
    if way == "button":
        choose(page, path)
        return
    transfer = page.evaluate_handle(
        """([content, name, type]) => {
          const transfer = new DataTransfer();
          const bytes = Uint8Array.from(atob(content), (character) => character.charCodeAt(0));
          transfer.items.add(new File([bytes], name, { type }));
          return transfer;
        }""",
        [base64.b64encode(path.read_bytes()).decode(), path.name, "image/png"],
    )
    page.evaluate(ENTER_FILE[way], [transfer])


@pytest.fixture
def cat(photos: Path) -> Path:
    return next(photos.rglob("cat.*"))


@pytest.mark.parametrize("way", ["button", "drop", "paste"])
def test_a_search_by_image_has_a_url(open_gallery: OpenTab, site: Site, cat: Path, way: str) -> None:
    tab = open_gallery("/?bucket=photos")
    enter(tab.page, way, cat)
    expect(tab.page.locator("#title img")).to_be_visible()
    ready(tab.page)
    assert [term.partition(":")[0] for term in all_terms(tab.page)] == ["query_image"]
    assert tab.names()[0].startswith("cat")
    names = tab.names()
    tab.page.reload()
    ready(tab.page)
    assert tab.names() == names
    expect(tab.page.locator(".chip img")).to_have_attribute("src", re.compile("^data:image/"))
    assert tab.shifts == []
    if way != "button":
        return
    # Another browser gets the same results from the URL, without the thumbnail: the server does not store it.
    fresh = open_gallery(tab.page.url.removeprefix(site.server.url))
    assert fresh.names() == names
    expect(fresh.page.locator(".chip-thumbnail.has-no-thumbnail .icon")).to_be_visible()
    assert fresh.shifts == []


def test_less_like_an_image_excludes_it_until_going_back(open_gallery: OpenTab, site: Site) -> None:
    tab = open_gallery("/?bucket=photos&q=a+motorcycle")
    names = tab.names()
    first = tab.page.locator(".tile").first
    image_id = first.get_attribute("data-id")
    first.hover()
    first.get_by_role("button", name="Less like this").click()
    chip = tab.page.locator(".chip.is-excluded")
    expect(chip.locator("img")).to_be_visible()
    expect(tab.page.locator("#title img")).to_be_visible()
    query = {"bucket": "photos", "q": "a motorcycle", "term": f"-image:{image_id}"}
    assert parameters(tab.page) == query
    ready(tab.page)
    expected = [file_name(image["key"]) for image in site.server.get("/api/search", **query)["images"]]
    assert tab.names() == expected != names

    chip.get_by_role("link", name=re.compile("switch to more")).click()
    expect(tab.page.locator(".chip:not(.is-excluded)")).to_be_visible()
    assert all_terms(tab.page) == [f"image:{image_id}"]
    tab.page.go_back()
    expect(chip).to_be_visible()
    assert tab.names() == expected
    tab.page.go_back()
    expect(tab.page.locator(".chip")).to_have_count(0)
    assert tab.names() == names


def test_the_selected_image_and_the_viewer_add_terms(open_gallery: OpenTab) -> None:
    tab = open_gallery("/?bucket=photos&q=a+cat")
    tab.page.keyboard.press("ArrowDown")
    tab.page.keyboard.press("s")
    tab.page.locator(".detail").get_by_role("button", name="Add words").click()
    expect(tab.page.locator(".detail")).to_have_count(0)
    expect(tab.page.locator("#q")).to_be_focused()
    expect(tab.page.locator(".chip")).to_have_count(1)
    tab.page.locator(".tile-link").nth(2).click()
    tab.page.locator("#lightbox").get_by_role("button", name="Less like this").click()
    expect(tab.page.locator("#lightbox")).to_be_hidden()
    expect(tab.page.locator(".chip")).to_have_count(2)
    assert [term.partition(":")[0] for term in all_terms(tab.page)] == ["image", "-image"]


def test_an_image_cannot_be_excluded_from_nothing(open_gallery: OpenTab) -> None:
    tab = open_gallery("/?bucket=photos")
    less = tab.page.get_by_role("button", name="Less like this")
    tab.page.locator(".tile-link").first.focus()
    expect(tab.page.get_by_role("button", name="More like this").first).to_be_visible()
    expect(less).to_have_count(0)
    tab.page.keyboard.press("l")
    tab.page.keyboard.press(" ")
    expect(tab.page.locator("#lightbox").get_by_role("button", name="More like this")).to_be_visible()
    expect(less).to_have_count(0)
    assert all_terms(tab.page) == []


def test_signed_words_become_chips_that_the_keyboard_reaches(open_gallery: OpenTab) -> None:
    tab = open_gallery("/?bucket=photos")
    field = tab.page.locator("#q")
    tab.page.keyboard.press("/")
    tab.page.keyboard.type("a garden -people +at night")
    tab.page.keyboard.press("Enter")
    expect(tab.page.locator("#title")).to_have_text("Results for a garden − people + at night")
    expect(field).to_have_value("a garden")
    assert all_terms(tab.page) == ["-text:people", "text:at night"]
    ready(tab.page)
    names = tab.names()

    tab.page.keyboard.press("/")
    tab.page.keyboard.press("End")
    for _ in range(3):
        tab.page.keyboard.press("ArrowRight")
    expect(tab.page.get_by_role("link", name="More like at night: switch to less")).to_be_focused()
    tab.page.keyboard.press("Delete")
    expect(tab.page.locator(".chip")).to_have_count(1)
    expect(tab.page.get_by_role("link", name="Remove people")).to_be_focused()
    tab.page.keyboard.press("ArrowLeft")
    tab.page.keyboard.press("ArrowLeft")
    expect(field).to_be_focused()
    tab.page.keyboard.press("ArrowRight")
    tab.page.keyboard.press("Space")
    expect(tab.page.get_by_role("link", name="More like people: switch to less")).to_be_focused()
    assert all_terms(tab.page) == ["text:people"]
    tab.page.go_back()
    tab.page.go_back()
    expect(tab.page.locator(".chip")).to_have_count(2)
    assert tab.names() == names

    tab.page.get_by_role("button", name="Clear search").click()
    expect(tab.page.locator("#title")).to_have_text("Recent")
    expect(tab.page.locator(".chip")).to_have_count(0)
    expect(field).to_be_focused()


def test_an_unusable_file_shows_an_error_below_the_field(open_gallery: OpenTab, tmp_path: Path) -> None:
    tab = open_gallery("/?bucket=photos&q=a+cat", allow_errors=True)
    names, error = tab.names(), tab.page.locator("#search-error")
    for name, size, reason in (
        ("a.png", 9, "Can’t search with"),
        ("b.png", 21 << 20, "too large"),
        ("c.txt", 9, "isn’t an image"),
    ):
        with (tmp_path / name).open("wb") as file:
            file.truncate(size)
        choose(tab.page, tmp_path / name)
        expect(error).to_contain_text(reason)
        expect(error).to_contain_text(name)
        expect(tab.page.locator(".chip")).to_have_count(0)
        error.get_by_role("button", name="Close").click()
        expect(error).to_be_hidden()
    assert tab.names() == names
    assert all_terms(tab.page) == []


def test_an_upload_can_be_cancelled(open_gallery: OpenTab, cat: Path) -> None:
    tab = open_gallery("/?bucket=photos")
    pending: list[Route] = []
    tab.page.route("**/api/query-images?*", lambda route: pending.append(route))
    enter(tab.page, "drop", cat)
    expect(tab.page.get_by_role("progressbar", name=f"Uploading {cat.name}")).to_be_visible()
    tab.page.get_by_role("link", name=f"Cancel upload of {cat.name}").click()
    expect(tab.page.locator(".chip")).to_have_count(0)
    expect(tab.page.locator("#title")).to_have_text("Recent")
    assert pending


def test_backspace_in_an_empty_field_reaches_the_last_chip(open_gallery: OpenTab) -> None:
    tab = open_gallery("/?bucket=photos&term=text:night&term=-text:people")
    tab.page.keyboard.press("/")
    tab.page.keyboard.press("Backspace")
    expect(tab.page.get_by_role("link", name="Remove people")).to_be_focused()
    tab.page.keyboard.press("Backspace")
    expect(tab.page.locator(".chip")).to_have_count(1)
    assert all_terms(tab.page) == ["text:night"]


PHONE = {"width": 390, "height": 844, "is_mobile": True, "has_touch": True}


@pytest.mark.parametrize("screen", [{}, PHONE], ids=["wide", "phone"])
def test_chips_and_errors_cause_no_layout_shifts(
    open_gallery: OpenTab, cat: Path, tmp_path: Path, screen: dict[str, int | bool]
) -> None:
    (tmp_path / "no.png").write_text("not an image")
    tab = open_gallery("/?bucket=photos&q=a+cat", allow_errors=True, **screen)
    choose(tab.page, tmp_path / "no.png")
    expect(tab.page.locator("#search-error")).to_contain_text("no.png")
    choose(tab.page, cat)
    expect(tab.page.locator("#title img")).to_have_count(1)
    ready(tab.page)
    tab.page.get_by_role("link", name=re.compile("switch to less")).click()
    expect(tab.page.locator(".chip.is-excluded")).to_have_count(1)
    tab.page.locator(".chip").get_by_role("link", name=re.compile("^Remove")).click()
    expect(tab.page.locator(".chip")).to_have_count(0)
    ready(tab.page)
    assert tab.all_shifts == []


def test_an_expired_query_image_can_be_removed_from_the_search(open_tab: OpenTab) -> None:
    tab = open_tab(f"/?bucket=photos&q=a+cat&term=query_image:{'A' * 22}", allow_errors=True)
    expect(tab.page.get_by_role("alert")).to_contain_text("Your uploaded image has expired")
    tab.page.get_by_role("link", name="Search without it").click()
    ready(tab.page)
    assert parameters(tab.page) == {"bucket": "photos", "q": "a cat"}
    expect(tab.page.get_by_role("alert")).to_be_hidden()


def test_terms_can_be_added_and_removed_on_a_narrow_phone(open_gallery: OpenTab) -> None:
    tab = open_gallery("/?bucket=photos&q=a+cat", width=360, height=640, is_mobile=True, has_touch=True)
    for number, name in ((1, "Less like this"), (0, "More like this")):
        tab.page.locator(".tile-link").nth(number).tap()
        tab.page.locator("#lightbox").get_by_role("button", name=name).tap()
        expect(tab.page.locator("#lightbox")).to_be_hidden()
    expect(tab.page.locator(".chip")).to_have_count(2)
    for part in tab.page.locator(".chip a").all():
        expect(part).to_be_in_viewport(ratio=1)
    expect(tab.page.get_by_role("button", name="Search by image")).to_be_in_viewport()
    assert tab.page.evaluate("document.documentElement.scrollWidth") == 360
    tab.page.locator(".chip").first.get_by_role("link", name=re.compile("^Remove")).tap()
    expect(tab.page.locator(".chip")).to_have_count(1)
    tab.page.reload()
    ready(tab.page)
    assert tab.shifts == []


def test_terms_work_without_javascript(open_tab: OpenTab) -> None:
    tab = open_tab("/?bucket=photos&q=a+garden&term=-text:people&term=text:night", java_script_enabled=False)
    names = tab.names()
    chip = tab.page.locator(".chip")
    tab.page.get_by_role("link", name="Remove night").click()
    expect(chip).to_have_count(1)
    assert all_terms(tab.page) == ["-text:people"]
    tab.page.get_by_role("link", name="Less like people: switch to more").click()
    expect(tab.page.locator(".chip.is-excluded")).to_have_count(0)
    assert all_terms(tab.page) == ["text:people"]
    assert tab.names() != names
    tab.page.fill("#q", "a cat")
    tab.page.press("#q", "Enter")
    expect(tab.page.locator("#title")).to_contain_text("a cat")
    assert parameters(tab.page) == {"bucket": "photos", "q": "a cat", "term": "text:people"}
