"""Searching with pictures, and with words that count for or against, in a real Chromium."""

import base64
import json
import re
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import pytest
from playwright.sync_api import Page, Route, expect

from tests.browser.conftest import OpenTab, Site, parameters, ready, search

pytestmark = [pytest.mark.browser, pytest.mark.xdist_group("browser")]

PNG = "image/png"
GIVE = {
    "drop": """([transfer]) => {
      for (const kind of ["dragenter", "dragover", "drop"])
        document.body.dispatchEvent(new DragEvent(kind, { dataTransfer: transfer, bubbles: true, cancelable: true }));
    }""",
    "paste": """([transfer]) => document.body.dispatchEvent(
      new ClipboardEvent("paste", { clipboardData: transfer, bubbles: true, cancelable: true }))""",
}


def choose(page: Page, path: Path) -> None:
    """Choose a picture with the button."""
    with page.expect_file_chooser() as chooser:
        page.get_by_role("button", name="Search by image").click()
    chooser.value.set_files(path)


def give(page: Page, way: str, path: Path) -> None:
    """Bring a picture into the page as somebody would."""
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
        [base64.b64encode(path.read_bytes()).decode(), path.name, PNG],
    )
    page.evaluate(GIVE[way], [transfer])


def terms(page: Page) -> list[str]:
    return parse_qs(urlsplit(page.url).query).get("term", [])


@pytest.fixture
def cat(photos: Path) -> Path:
    return next(photos.rglob("cat.*"))


@pytest.mark.parametrize("way", ["button", "drop", "paste"])
def test_a_picture_is_searched_for_and_stays_in_the_address(open_tab: OpenTab, cat: Path, way: str) -> None:
    tab = open_tab("/?bucket=photos")
    ready(tab.page)
    give(tab.page, way, cat)
    expect(tab.page.locator("#title img")).to_be_visible()
    ready(tab.page)
    assert [term.partition(":")[0] for term in terms(tab.page)] == ["query_image"]
    assert tab.names()[0].startswith("cat")
    names = tab.names()
    tab.page.reload()
    ready(tab.page)
    assert tab.names() == names
    expect(tab.page.locator(".chip img")).to_have_attribute("src", re.compile("^data:image/"))
    assert tab.shifts == []
    if way != "button":
        return
    # Elsewhere the address finds the same; the picture itself is nowhere kept.
    fresh = open_tab(tab.page.url.split("/", 3)[3].join(["/", ""]))
    ready(fresh.page)
    assert fresh.names() == names
    expect(fresh.page.locator(".chip-thumbnail.has-no-thumbnail .icon")).to_be_visible()
    assert fresh.shifts == []


def test_less_like_an_image_pushes_it_away_and_going_back_brings_it_again(open_tab: OpenTab, site: Site) -> None:
    tab = open_tab("/?bucket=photos&q=a+motorcycle")
    ready(tab.page)
    names = tab.names()
    first = tab.page.locator(".tile").first
    identity = first.get_attribute("data-id")
    first.hover()
    first.get_by_role("button", name="Less like this").click()
    chip = tab.page.locator(".chip.is-excluded")
    expect(chip.locator("img")).to_be_visible()
    expect(tab.page.locator("#title img")).to_be_visible()
    assert parameters(tab.page) == {"bucket": "photos", "q": "a motorcycle", "term": f"-image:{identity}"}
    ready(tab.page)
    asked = {"bucket": "photos", "q": "a motorcycle", "term": f"-image:{identity}"}
    expected = [image["key"].rsplit("/", 1)[-1] for image in site.server.get("/api/search", **asked)["images"]]
    assert tab.names() == expected != names

    chip.get_by_role("link", name=re.compile("switch to more")).click()
    expect(tab.page.locator(".chip:not(.is-excluded)")).to_be_visible()
    assert terms(tab.page) == [f"image:{identity}"]
    tab.page.go_back()
    expect(chip).to_be_visible()
    assert tab.names() == expected
    tab.page.go_back()
    expect(tab.page.locator(".chip")).to_have_count(0)
    assert tab.names() == names


def test_a_chosen_image_and_the_large_view_offer_more_and_less(open_tab: OpenTab) -> None:
    tab = open_tab("/?bucket=photos&q=a+cat")
    ready(tab.page)
    tab.page.keyboard.press("ArrowDown")
    tab.page.keyboard.press("Enter")
    tab.page.locator(".detail").get_by_role("button", name="More like this").click()
    expect(tab.page.locator(".detail")).to_have_count(0)
    expect(tab.page.locator(".chip")).to_have_count(1)
    tab.page.locator(".tile").nth(2).hover()
    tab.page.get_by_role("button", name="Enlarge").nth(2).click()
    tab.page.locator("#lightbox").get_by_role("button", name="Less like this").click()
    expect(tab.page.locator("#lightbox")).to_be_hidden()
    expect(tab.page.locator(".chip")).to_have_count(2)
    assert [term.partition(":")[0] for term in terms(tab.page)] == ["image", "-image"]


def test_words_with_a_sign_become_chips_that_the_keyboard_reaches(open_tab: OpenTab) -> None:
    tab = open_tab("/?bucket=photos")
    ready(tab.page)
    field = tab.page.locator("#q")
    tab.page.keyboard.press("/")
    tab.page.keyboard.type("a garden -people +at night")
    tab.page.keyboard.press("Enter")
    expect(tab.page.locator("#title")).to_have_text("Results for a garden − people + at night")
    expect(field).to_have_value("a garden")
    assert terms(tab.page) == ["-text:people", "text:at night"]
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
    assert terms(tab.page) == ["text:people"]
    tab.page.go_back()
    tab.page.go_back()
    expect(tab.page.locator(".chip")).to_have_count(2)
    assert tab.names() == names

    tab.page.get_by_role("button", name="Clear search").click()
    expect(tab.page.locator("#title")).to_have_text("Recent")
    expect(tab.page.locator(".chip")).to_have_count(0)
    expect(field).to_be_focused()


def test_what_cannot_be_searched_for_is_said_in_place(open_tab: OpenTab, tmp_path: Path) -> None:
    tab = open_tab("/?bucket=photos&q=a+cat", complaints=True)
    ready(tab.page)
    names, note = tab.names(), tab.page.locator("#search-error")
    for name, size, reason in (
        ("a.png", 9, "Can’t search with"),
        ("b.png", 21 << 20, "too large"),
        ("c.txt", 9, "isn’t an image"),
    ):
        with (tmp_path / name).open("wb") as file:
            file.truncate(size)
        choose(tab.page, tmp_path / name)
        expect(note).to_contain_text(reason)
        expect(note).to_contain_text(name)
        expect(tab.page.locator(".chip")).to_have_count(0)
        note.get_by_role("button", name="Close").click()
        expect(note).to_be_hidden()
    assert tab.names() == names
    assert terms(tab.page) == []


def test_a_picture_that_is_being_sent_can_be_held_back(open_tab: OpenTab, cat: Path) -> None:
    tab = open_tab("/?bucket=photos")
    ready(tab.page)
    held: list[Route] = []
    tab.page.route("**/api/query-images?*", lambda route: held.append(route))
    give(tab.page, "drop", cat)
    expect(tab.page.get_by_role("progressbar", name=f"Uploading {cat.name}")).to_be_visible()
    tab.page.get_by_role("link", name=f"Cancel upload of {cat.name}").click()
    expect(tab.page.locator(".chip")).to_have_count(0)
    expect(tab.page.locator("#title")).to_have_text("Recent")
    assert held


def test_the_last_chip_can_be_reached_from_an_empty_field(open_tab: OpenTab) -> None:
    tab = open_tab("/?bucket=photos&term=text:night&term=-text:people")
    ready(tab.page)
    tab.page.keyboard.press("/")
    tab.page.keyboard.press("Backspace")
    expect(tab.page.get_by_role("link", name="Remove people")).to_be_focused()
    tab.page.keyboard.press("Backspace")
    expect(tab.page.locator(".chip")).to_have_count(1)
    assert terms(tab.page) == ["text:night"]


PHONE = {"width": 390, "height": 844, "is_mobile": True, "has_touch": True}


@pytest.mark.parametrize("screen", [{}, PHONE], ids=["wide", "phone"])
def test_neither_a_chip_nor_a_refusal_moves_anything(
    open_tab: OpenTab, cat: Path, tmp_path: Path, screen: dict[str, int | bool]
) -> None:
    (tmp_path / "no.png").write_text("no picture")
    tab = open_tab("/?bucket=photos&q=a+cat", complaints=True, **screen)
    ready(tab.page)
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
    assert tab.moves == []


def test_an_expired_picture_is_said_kindly_and_left_out_on_request(open_tab: OpenTab) -> None:
    tab = open_tab(f"/?bucket=photos&q=a+cat&term=query_image:{'A' * 22}", complaints=True)
    expect(tab.page.get_by_role("alert")).to_contain_text("Your uploaded image has expired")
    tab.page.get_by_role("link", name="Search without it").click()
    ready(tab.page)
    assert parameters(tab.page) == {"bucket": "photos", "q": "a cat"}
    expect(tab.page.get_by_role("alert")).to_be_hidden()


def test_composing_works_with_a_finger_on_a_narrow_phone(open_tab: OpenTab) -> None:
    tab = open_tab("/?bucket=photos&q=a+cat", width=360, height=640, is_mobile=True, has_touch=True)
    ready(tab.page)
    tab.page.locator(".tile").nth(1).get_by_role("button", name="Less like this").tap()
    expect(tab.page.locator(".chip")).to_have_count(1)
    tab.page.locator(".tile").nth(0).get_by_role("button", name="More like this").tap()
    expect(tab.page.locator(".chip")).to_have_count(2)
    expect(tab.page.get_by_role("button", name="Search by image")).to_be_in_viewport()
    assert tab.page.evaluate("document.documentElement.scrollWidth") == 360
    tab.page.locator(".chip").first.get_by_role("link", name=re.compile("^Remove")).tap()
    expect(tab.page.locator(".chip")).to_have_count(1)
    tab.page.reload()
    ready(tab.page)
    assert tab.shifts == []


def test_a_composed_query_works_without_javascript(open_tab: OpenTab) -> None:
    tab = open_tab("/?bucket=photos&q=a+garden&term=-text:people&term=text:night", java_script_enabled=False)
    names = tab.names()
    chip = tab.page.locator(".chip")
    tab.page.get_by_role("link", name="Remove night").click()
    expect(chip).to_have_count(1)
    assert terms(tab.page) == ["-text:people"]
    tab.page.get_by_role("link", name="Less like people: switch to more").click()
    expect(tab.page.locator(".chip.is-excluded")).to_have_count(0)
    assert terms(tab.page) == ["text:people"]
    assert tab.names() != names
    tab.page.fill("#q", "a cat")
    tab.page.press("#q", "Enter")
    expect(tab.page.locator("#title")).to_contain_text("a cat")
    assert parameters(tab.page) == {"bucket": "photos", "q": "a cat", "term": "text:people"}


def test_weak_matches_begin_below_a_divider_on_whatever_page_and_can_be_hidden(open_tab: OpenTab) -> None:
    tab = open_tab("/?bucket=photos")
    ready(tab.page)
    # Pages of five, of which the last of the second is the first weak one.
    seen = 0

    def small_pages(route: Route) -> None:
        nonlocal seen
        answer = route.fetch(url=re.sub("limit=[0-9]+", "limit=5", route.request.url))
        page = answer.json()
        for image in page["images"]:
            image["weak"] = seen >= 9
            seen += 1
        route.fulfill(response=answer, body=json.dumps(page))

    tab.page.route("**/api/search?*", small_pages)
    search(tab.page, "a motorcycle")
    divider = tab.page.locator(".divider")
    expect(divider).to_contain_text("Less relevant")
    expect(tab.page.locator("#end-of-list")).to_have_text(re.compile("^[0-9]+ images$"))
    box = divider.bounding_box()
    assert box is not None
    tiles = tab.tiles()
    assert all(float(tile["bottom"]) <= box["y"] for tile in tiles[:9])
    assert all(float(tile["top"]) >= box["y"] + box["height"] for tile in tiles[9:])
    assert tab.shifts == []
    tab.page.unroute("**/api/search?*")
    divider.get_by_role("link", name="Hide").click()
    expect(tab.page.locator("#active-filters")).to_contain_text("Relevant matches only")
    assert parameters(tab.page)["strict"] == "1"
    expect(divider).to_have_count(0)
    tab.page.go_back()
    expect(divider).to_have_count(1)


def test_nonsense_gets_the_closest_matches_and_strictly_none(open_tab: OpenTab) -> None:
    nonsense = "quarterly tax return spreadsheet formula"
    for script in (True, False):
        tab = open_tab(f"/?bucket=photos&q={nonsense}", java_script_enabled=script)
        expect(tab.page.locator(".divider")).to_have_text("No strong matches, showing the closest")
        if script:
            assert tab.shifts == []
        tab.page.goto(tab.page.url + "&strict=1")
        expect(tab.page.locator("#empty")).to_contain_text("No strong matches")
        tab.page.get_by_role("link", name="Show the closest matches").click()
        expect(tab.page.locator(".divider")).to_be_visible()
