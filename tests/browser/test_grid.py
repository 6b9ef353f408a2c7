"""The grid of images in Chromium."""

import re
from itertools import combinations
from urllib.parse import unquote

import pytest
from playwright.sync_api import Page, expect

from tests.browser.conftest import HOSTILE_NAMES, MANY_COUNT, OpenTab, Site, Tile, all_images, file_name, ready, search

pytestmark = [pytest.mark.browser, pytest.mark.xdist_group("browser")]


def scroll_to_the_end(page: Page) -> None:
    page.wait_for_function(
        """() => {
          scrollTo(0, document.documentElement.scrollHeight);
          const end = document.querySelector("#end-of-list.is-end");
          return end && end.getBoundingClientRect().top < innerHeight;
        }"""
    )


def test_a_long_grid_keeps_its_order_and_renders_few_tiles(open_gallery: OpenTab, site: Site) -> None:
    tab = open_gallery("/?bucket=many")
    tab.page.mouse.move(600, 400)
    seen: dict[int, Tile] = {}
    most = 0
    for _ in range(200):
        tiles = tab.tiles()
        most = max(most, len(tiles))
        positions = [tile.position for tile in tiles]
        assert positions == sorted(positions), "the document follows the order of the list"
        for tile in tiles:
            first_seen = seen.setdefault(tile.position, tile)
            assert first_seen.name == tile.name
            assert first_seen.top == pytest.approx(tile.top, abs=1), "placed tiles never move"
        if max(positions) == MANY_COUNT:
            break
        tab.page.mouse.wheel(0, 700)
        tab.page.wait_for_timeout(50)

    assert tab.shifts == []
    assert sorted(seen) == list(range(1, MANY_COUNT + 1))
    expected = [file_name(image["key"]) for image in all_images(site)]
    assert [seen[number].name for number in sorted(seen)] == expected
    tops = [seen[number].top for number in sorted(seen)]
    assert all(later >= earlier - 2 for earlier, later in zip(tops, tops[1:], strict=False)), "reads from top to bottom"
    assert most < 100
    files = [unquote(path) for path in tab.requests if path.startswith("/files/")]
    assert files
    assert all("/.image-browser/" in path for path in files), "the grid loads thumbnails, never originals"


def test_tiles_never_overlap_at_any_width(open_gallery: OpenTab) -> None:
    tab = open_gallery("/?bucket=many")
    for width in (1920, 1024, 700, 390, 320):
        tab.page.set_viewport_size({"width": width, "height": 800})
        tab.page.wait_for_function(
            """() => {
              const grid = document.querySelector(".grid").getBoundingClientRect();
              const rights = [...document.querySelectorAll(".tile")].map((tile) => tile.getBoundingClientRect().right);
              return Math.abs(Math.max(...rights) - grid.right) <= 1;
            }"""
        )
        for one, other in combinations(tab.tiles(), 2):
            beside = one.right <= other.left or other.right <= one.left
            above = one.bottom <= other.top or other.bottom <= one.top
            assert beside or above, (width, one, other)
        assert tab.page.evaluate("document.documentElement.scrollWidth <= innerWidth"), width


def test_large_tiles_on_dense_screens_show_previews(open_gallery: OpenTab) -> None:
    tab = open_gallery("/?bucket=photos", width=390, device_scale_factor=3)
    picture = tab.page.locator(".tile-image").first
    expect(picture).to_have_attribute("src", re.compile("/thumbnails/"))
    tab.page.keyboard.press("+")
    tab.page.keyboard.press("+")
    expect(picture).to_have_attribute("src", re.compile("/previews/"))


def test_resizing_the_window_keeps_the_same_images_in_view(open_gallery: OpenTab) -> None:
    tab = open_gallery("/?bucket=many")
    scroll_to_the_end(tab.page)
    tab.page.evaluate("scrollTo(0, 4000)")
    tab.page.wait_for_timeout(100)
    top = "() => [...document.querySelectorAll('.tile')].find((t) => t.getBoundingClientRect().top >= 70).ariaPosInSet"
    before = tab.page.evaluate(top)
    tab.page.set_viewport_size({"width": 760, "height": 900})
    tab.page.wait_for_timeout(300)
    box = tab.page.locator(f".tile[aria-posinset='{before}']").bounding_box()
    assert box is not None
    assert 0 <= box["y"] < 400


def test_loading_a_failed_page_can_be_retried(open_tab: OpenTab) -> None:
    tab = open_tab("/?bucket=photos", allow_errors=True)
    # An outage would be retried without a click.
    tab.page.route("**/api/images?*cursor=*", lambda route: route.fulfill(status=404, json={"detail": "gone"}))
    tab.page.goto(tab.page.url.replace("bucket=photos", "bucket=many"))
    ready(tab.page)
    tab.page.evaluate("scrollTo(0, document.documentElement.scrollHeight)")
    expect(tab.page.locator("#end-of-list")).to_contain_text("Could not load more images")
    tab.page.unroute("**/api/images?*cursor=*")
    tab.page.get_by_role("button", name="Try again").click()
    scroll_to_the_end(tab.page)
    expect(tab.page.locator("#end-of-list")).to_have_text(f"{MANY_COUNT} images")


def test_the_page_heals_after_an_outage(open_tab: OpenTab) -> None:
    tab = open_tab("/?bucket=photos", allow_errors=True)
    for pattern in ("**/api/images?*cursor=*", "**/files/**"):
        tab.page.route(pattern, lambda route: route.abort())
    tab.page.goto(tab.page.url.replace("bucket=photos", "bucket=many"))
    broken = tab.page.locator(".tile.is-broken")
    expect(broken.first).to_be_visible()
    tab.page.evaluate("scrollTo(0, document.documentElement.scrollHeight)")
    expect(tab.page.locator("#end-of-list")).to_contain_text("Could not load more images")
    for pattern in ("**/api/images?*cursor=*", "**/files/**"):
        tab.page.unroute(pattern)
    expect(broken).to_have_count(0)
    scroll_to_the_end(tab.page)
    expect(tab.page.locator("#end-of-list")).to_have_text(f"{MANY_COUNT} images")


@pytest.mark.parametrize("leave", ["search", "reload"])
def test_returning_restores_a_scroll_position_deep_in_the_grid(open_gallery: OpenTab, leave: str) -> None:
    tab = open_gallery("/?bucket=many")
    scroll_to_the_end(tab.page)
    tab.page.evaluate("scrollBy(0, -900)")
    tab.page.wait_for_timeout(500)  # the position is saved when scrolling stops
    before = {tile.name: tile.top for tile in tab.tiles()}
    offset = tab.page.evaluate("scrollY")
    assert offset > 2000
    if leave == "search":
        search(tab.page, "picture")
        assert tab.page.evaluate("scrollY") == 0
        tab.page.go_back()
        expect(tab.page.locator("#title")).to_have_text("Recent")
    else:
        tab.page.reload()
    tab.page.wait_for_function("(offset) => Math.abs(scrollY - offset) <= 1", arg=offset)
    tab.page.wait_for_timeout(100)
    after = {tile.name: tile.top for tile in tab.tiles()}
    assert set(before) & set(after)
    assert all(before[name] == pytest.approx(after[name], abs=1) for name in set(before) & set(after))


@pytest.mark.parametrize("path", ["/?bucket=photos", "/?bucket=photos&q=a+cat", "/?bucket=many&similar={longest}"])
def test_a_phone_never_scrolls_sideways(open_tab: OpenTab, site: Site, path: str) -> None:
    longest = max(all_images(site), key=lambda image: len(image["key"]))["id"]
    tab = open_tab(path.format(longest=longest), width=390, height=844, is_mobile=True, has_touch=True)
    expect(tab.page.locator("main.is-ready")).to_be_visible()
    assert tab.page.evaluate("document.documentElement.scrollWidth") == 390
    assert tab.page.evaluate("innerWidth") == 390
    assert tab.shifts == []


def test_hostile_file_names_are_shown_as_text(open_tab: OpenTab, open_gallery: OpenTab, site: Site) -> None:
    tab = open_gallery("/?bucket=many")
    scroll_to_the_end(tab.page)
    hostile = [i for i in all_images(site) if i["key"].startswith("hostile/")]
    assert {image["key"] for image in hostile} == {f"hostile/{name}" for name in HOSTILE_NAMES}
    for image in hostile:
        name = file_name(image["key"])
        for script in (True, False):
            shown = open_tab(f"/?bucket=many&similar={image['id']}", java_script_enabled=script)
            expect(shown.page.locator(".detail-name")).to_have_text(name)
            expect(shown.page.locator(".detail-image")).to_have_attribute("alt", name)
            assert shown.page.evaluate("document.querySelectorAll('script:not([src], [type$=json])').length") == 0
            shown.page.wait_for_function("() => document.querySelector('.detail-image').naturalWidth > 0")
