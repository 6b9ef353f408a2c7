"""The gallery in a real Chromium."""

import json
import re
import shutil
from pathlib import Path
from urllib.parse import unquote

import pytest
from playwright.sync_api import Browser, Page, Route, expect

from tests.browser.conftest import CAMERA, HOSTILE_NAMES, MANY, OpenTab, Site, parameters, ready, search
from tests.helpers.processes import serving

# One worker drives the browser: the site is built once.
pytestmark = [pytest.mark.browser, pytest.mark.xdist_group("browser")]


def scroll_to_the_end(page: Page) -> None:
    page.wait_for_function(
        """() => {
          scrollTo(0, document.documentElement.scrollHeight);
          const end = document.querySelector("#end-of-list.is-end");
          return end && end.getBoundingClientRect().top < innerHeight;
        }"""
    )


def test_a_long_wall_keeps_its_order_shifts_nothing_and_stays_small(open_tab: OpenTab, site: Site) -> None:
    tab = open_tab("/?bucket=many")
    ready(tab.page)
    tab.page.mouse.move(600, 400)
    seen: dict[int, dict[str, float | str]] = {}
    most = 0
    for _ in range(200):
        tiles = tab.tiles()
        most = max(most, len(tiles))
        positions = [int(tile["position"]) for tile in tiles]
        assert positions == sorted(positions), "the document follows the order of the list"
        for tile in tiles:
            known = seen.setdefault(int(tile["position"]), tile)
            assert known["name"] == tile["name"]
            assert known["top"] == pytest.approx(tile["top"], abs=1), "what has been placed never moves"
        if max(positions) == MANY:
            break
        tab.page.mouse.wheel(0, 700)
        tab.page.wait_for_timeout(50)

    assert tab.shifts == []
    assert sorted(seen) == list(range(1, MANY + 1))
    expected = [key.rsplit("/", 1)[-1] for key in site.server.keys("/api/images", bucket="many", limit=200)]
    assert [seen[number]["name"] for number in range(1, len(expected) + 1)] == expected
    tops = [float(seen[number]["top"]) for number in sorted(seen)]
    assert all(later >= earlier - 2 for earlier, later in zip(tops, tops[1:], strict=False)), "reads from top to bottom"
    assert most < 100
    files = [unquote(path) for path in tab.requests if path.startswith("/files/")]
    assert files
    assert all("/.image-browser/" in path for path in files), "the wall loads thumbnails, never originals"


def test_no_two_tiles_overlap_at_any_width(open_tab: OpenTab) -> None:
    tab = open_tab("/?bucket=many")
    ready(tab.page)
    for width in (1920, 1024, 700, 390, 320):
        tab.page.set_viewport_size({"width": width, "height": 800})
        tab.page.wait_for_function(
            """() => {
              const wall = document.querySelector(".grid").getBoundingClientRect();
              const rights = [...document.querySelectorAll(".tile")].map((tile) => tile.getBoundingClientRect().right);
              return Math.abs(Math.max(...rights) - wall.right) <= 1;
            }"""
        )
        tiles = tab.tiles()
        for one in tiles:
            for other in tiles:
                apart = (
                    one is other
                    or float(one["right"]) <= float(other["left"])
                    or float(other["right"]) <= float(one["left"])
                    or float(one["bottom"]) <= float(other["top"])
                    or float(other["bottom"]) <= float(one["top"])
                )
                assert apart, (width, one, other)
        assert tab.page.evaluate("document.documentElement.scrollWidth <= innerWidth"), width


def test_resizing_the_window_keeps_what_the_reader_looks_at(open_tab: OpenTab) -> None:
    tab = open_tab("/?bucket=many")
    ready(tab.page)
    scroll_to_the_end(tab.page)
    tab.page.evaluate("scrollTo(0, 4000)")
    tab.page.wait_for_timeout(100)
    top = "() => [...document.querySelectorAll('.tile')].find((t) => t.getBoundingClientRect().top >= 70).ariaPosInSet"
    before = tab.page.evaluate(top)
    tab.page.set_viewport_size({"width": 760, "height": 900})
    tab.page.wait_for_timeout(300)
    place = tab.page.locator(f".tile[aria-posinset='{before}']").bounding_box()
    assert place is not None
    assert 0 <= place["y"] < 400


def test_a_failed_page_of_the_wall_can_be_asked_for_again(open_tab: OpenTab) -> None:
    tab = open_tab("/?bucket=photos", complaints=True)
    tab.page.route("**/api/images?*cursor=*", lambda route: route.abort())
    tab.page.goto(tab.page.url.replace("bucket=photos", "bucket=many"))
    ready(tab.page)
    tab.page.evaluate("scrollTo(0, document.documentElement.scrollHeight)")
    expect(tab.page.locator("#end-of-list")).to_contain_text("Could not load more images")
    tab.page.unroute("**/api/images?*cursor=*")
    tab.page.get_by_role("button", name="Try again").click()
    scroll_to_the_end(tab.page)
    expect(tab.page.locator("#end-of-list")).to_have_text(f"{MANY} images")


def test_a_search_finds_the_cat_in_place_and_has_an_address(open_tab: OpenTab, site: Site) -> None:
    tab = open_tab("/?bucket=photos")
    ready(tab.page)
    tab.page.evaluate("window.sameDocument = true")
    search(tab.page, "a cat")
    expect(tab.page.locator(".tile").first.locator("img")).to_have_attribute("alt", re.compile("chelsea|cat"))
    assert parameters(tab.page) == {"bucket": "photos", "q": "a cat"}
    assert tab.page.title().startswith("a cat")
    names = tab.names()
    search(tab.page, "a rocket")
    assert tab.names() != names
    tab.page.go_back()
    expect(tab.page.locator("#title")).to_contain_text("a cat")
    assert tab.names() == names
    assert tab.page.input_value("#q") == "a cat"
    assert tab.page.evaluate("window.sameDocument")
    assert tab.shifts == []

    fresh = open_tab("/?bucket=photos&q=a+cat")
    ready(fresh.page)
    assert fresh.names() == names
    assert fresh.shifts == []


def test_an_older_search_never_replaces_a_newer_one(open_tab: OpenTab) -> None:
    tab = open_tab("/?bucket=photos")
    ready(tab.page)
    held: list[Route] = []
    tab.page.route("**/api/search?*q=slow*", lambda route: held.append(route))
    tab.page.keyboard.press("/")
    tab.page.keyboard.type("slow")
    tab.page.keyboard.press("Enter")
    expect(tab.page.locator("#loading-bar")).to_be_visible()
    search(tab.page, "a rocket")
    names = tab.names()
    expect(tab.page.locator("#loading-bar")).to_be_hidden()
    assert held
    assert parameters(tab.page)["q"] == "a rocket"
    assert tab.names() == names


@pytest.mark.parametrize("leave", ["search", "reload"])
def test_coming_back_restores_the_place_deep_in_the_wall(open_tab: OpenTab, leave: str) -> None:
    tab = open_tab("/?bucket=many")
    ready(tab.page)
    scroll_to_the_end(tab.page)
    tab.page.evaluate("scrollBy(0, -900)")
    tab.page.wait_for_timeout(500)  # the place is noted when the wall has come to rest
    before = {tile["name"]: tile["top"] for tile in tab.tiles()}
    offset = tab.page.evaluate("scrollY")
    assert offset > 2000
    if leave == "search":
        tab.page.mouse.click(300, 400)
        expect(tab.page.locator(".detail")).to_be_visible()
        assert tab.page.evaluate("scrollY") == 0
        tab.page.go_back()
        expect(tab.page.locator(".detail")).to_have_count(0)
    else:
        tab.page.reload()
    tab.page.wait_for_function("(offset) => Math.abs(scrollY - offset) <= 1", arg=offset)
    tab.page.wait_for_timeout(100)
    after = {tile["name"]: tile["top"] for tile in tab.tiles()}
    assert set(before) & set(after)
    assert all(before[name] == pytest.approx(after[name], abs=1) for name in set(before) & set(after))


def test_a_click_shows_the_neighbours_with_the_image_above_them(open_tab: OpenTab, site: Site) -> None:
    tab = open_tab("/?bucket=photos&q=a+cat")
    ready(tab.page)
    cat = site.server.get("/api/search", bucket="photos", q="a cat", limit=1)["images"][0]
    tab.page.locator(".tile-link").first.click()
    expect(tab.page.locator(".detail-name")).to_have_text(cat["key"].rsplit("/", 1)[-1])
    expect(tab.page.locator(".detail-facts")).to_contain_text("MP")
    assert parameters(tab.page) == {"bucket": "photos", "similar": str(cat["id"])}
    expected = [k.rsplit("/", 1)[-1] for k in site.server.keys(f"/api/images/{cat['id']}/similar", bucket="photos")]
    assert tab.names() == expected[: len(tab.names())]
    address = tab.page.url.removeprefix(site.server.url)

    tab.page.keyboard.press("Escape")
    expect(tab.page.locator("#title")).to_contain_text("a cat")
    fresh = open_tab(address)
    ready(fresh.page)
    expect(fresh.page.locator(".detail-image")).to_be_visible()
    assert fresh.names() == expected[: len(fresh.names())]
    assert fresh.shifts == []
    fresh.page.get_by_role("link", name="Close").click()
    expect(fresh.page.locator("#title")).to_have_text("Recent")


def test_the_large_view_steps_through_the_results(open_tab: OpenTab, site: Site) -> None:
    tab = open_tab("/?bucket=photos")
    ready(tab.page)
    images = site.server.get("/api/images", bucket="photos")["images"]
    tab.page.locator(".tile").nth(1).hover()
    tab.page.get_by_role("button", name="Enlarge").nth(1).click()
    box = tab.page.locator("#lightbox")
    expect(box).to_be_visible()
    assert parameters(tab.page)["view"] == str(images[1]["id"])
    tab.page.keyboard.press("ArrowRight")
    tab.page.keyboard.press("ArrowRight")
    tab.page.keyboard.press("ArrowLeft")
    expect(box.locator(".lightbox-image")).to_have_attribute("src", images[2]["preview_url"])
    tab.page.keyboard.press("i")
    expect(box.locator(".lightbox-details")).to_contain_text("Size")
    assert parameters(tab.page)["view"] == str(images[2]["id"])

    tab.page.reload()
    expect(box).to_be_visible()
    expect(box.locator(".lightbox-image")).to_have_attribute("src", images[2]["preview_url"])
    tab.page.keyboard.press("Escape")
    expect(box).to_be_hidden()
    expect(tab.page.locator(".tile-link").nth(2)).to_be_focused()
    assert "view" not in parameters(tab.page)


def test_everything_can_be_reached_with_the_keyboard(open_tab: OpenTab) -> None:
    tab = open_tab("/?bucket=photos")
    ready(tab.page)
    keyboard = tab.page.keyboard
    keyboard.press("ArrowDown")
    expect(tab.page.locator(".tile-link").nth(0)).to_be_focused()
    keyboard.press("ArrowRight")
    expect(tab.page.locator(".tile-link").nth(1)).to_be_focused()
    assert tab.page.locator(".tile-link[tabindex='0']").count() == 1, "the wall is one stop of the Tab key"
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


def test_names_of_files_are_text_and_nothing_else(open_tab: OpenTab, site: Site) -> None:
    tab = open_tab("/?bucket=many")
    ready(tab.page)
    scroll_to_the_end(tab.page)
    hostile = [i for i in _everything(site, "many") if i["key"].startswith("hostile/")]
    assert {image["key"] for image in hostile} == {f"hostile/{name}" for name in HOSTILE_NAMES}
    for image in hostile:
        name = image["key"].rsplit("/", 1)[-1]
        for script in (True, False):
            shown = open_tab(f"/?bucket=many&similar={image['id']}", java_script_enabled=script)
            expect(shown.page.locator(".detail-name")).to_have_text(name)
            expect(shown.page.locator(".detail-image")).to_have_attribute("alt", name)
            assert shown.page.evaluate("document.querySelectorAll('script:not([src])').length") == 0
            shown.page.wait_for_function("() => document.querySelector('.detail-image').naturalWidth > 0")


def _everything(site: Site, bucket: str) -> list[dict[str, str]]:
    images: list[dict[str, str]] = []
    cursor = None
    while True:
        more = {"cursor": cursor} if cursor else {}
        page = site.server.get("/api/images", bucket=bucket, limit=200, **more)
        images += page["images"]
        if (cursor := page["next_cursor"]) is None:
            return images


def test_a_query_is_text_and_nothing_else(open_tab: OpenTab) -> None:
    query = "<img src=x onerror=alert(1)>\"'"
    tab = open_tab("/?bucket=photos")
    ready(tab.page)
    search(tab.page, query)
    tab.page.reload()
    expect(tab.page.locator("#title")).to_contain_text(query)
    assert tab.page.input_value("#q") == query


def test_weak_matches_stand_below_a_divider(open_tab: OpenTab) -> None:
    tab = open_tab("/?bucket=photos")
    ready(tab.page)

    def weaken(route: Route) -> None:
        answer = route.fetch()
        page = answer.json()
        for number, image in enumerate(page["images"]):
            image["weak"] = number >= 4
        route.fulfill(response=answer, body=json.dumps(page))

    tab.page.route("**/api/search?*", weaken)
    search(tab.page, "a cat")
    divider = tab.page.locator(".divider")
    expect(divider).to_contain_text("Less relevant")
    box = divider.bounding_box()
    assert box is not None
    tiles = tab.tiles()
    assert all(float(tile["bottom"]) <= box["y"] for tile in tiles[:4])
    assert all(float(tile["top"]) >= box["y"] + box["height"] for tile in tiles[4:])
    assert "found" not in (tab.page.locator("main").text_content() or "").lower()


def test_a_search_that_fails_says_why_and_can_be_tried_again(open_tab: OpenTab) -> None:
    tab = open_tab("/?bucket=photos", complaints=True)
    ready(tab.page)
    problem = {"type": "about:blank", "title": "Unavailable", "status": 503, "detail": "The model <b>rests</b>."}
    tab.page.route(
        "**/api/search?*",
        lambda route: route.fulfill(status=503, content_type="application/problem+json", body=json.dumps(problem)),
    )
    search(tab.page, "a cat")
    expect(tab.page.get_by_role("alert")).to_contain_text("The model <b>rests</b>.")
    assert tab.moves == []
    tab.page.unroute("**/api/search?*")
    tab.page.get_by_role("button", name="Try again").click()
    ready(tab.page)
    expect(tab.page.get_by_role("alert")).to_be_hidden()


def test_a_bucket_that_does_not_exist_is_said_kindly(open_tab: OpenTab) -> None:
    for script in (True, False):
        tab = open_tab("/?bucket=nowhere", complaints=True, java_script_enabled=script)
        expect(tab.page.get_by_role("alert")).to_contain_text("Collection nowhere not found")
        tab.page.get_by_role("alert").get_by_role("link", name="photos").click()
        expect(tab.page.locator(".tile").first).to_be_visible()


def test_the_first_collection_appears_by_itself(chromium: Browser, site: Site, photos: Path, tmp_path: Path) -> None:
    folder = tmp_path / "first"
    folder.mkdir()
    shutil.copy(next(photos.rglob("cat.*")), folder)
    with serving({**site.environment, "BUCKETS": "first"}, tmp_path / "server.log") as server:
        page = chromium.new_page()
        page.goto(server.url)
        expect(page.locator("#empty")).to_contain_text("No images yet")
        assert site.syncer("upload", folder, "--bucket", "first").status == 0
        expect(page.locator(".tile")).to_have_count(1)
        page.close()


def test_the_exposure_is_written_as_photographers_do(open_tab: OpenTab, site: Site) -> None:
    image = site.server.get("/api/images", bucket="many", camera=CAMERA, limit=1)["images"][0]
    tab = open_tab(f"/?bucket=many&similar={image['id']}")
    expect(tab.page.locator(".detail-facts")).to_contain_text("1/125 s · ƒ/2.8 · ISO 400 · 35 mm")


def test_collections_are_switched_in_the_bar(open_tab: OpenTab) -> None:
    tab = open_tab("/?bucket=photos&q=a+cat")
    ready(tab.page)
    tab.page.locator(".collections summary").click()
    tab.page.get_by_role("link", name=re.compile("^many")).click()
    expect(tab.page.locator("#count")).to_have_text(f"{MANY} images")
    assert parameters(tab.page) == {"bucket": "many"}


@pytest.mark.parametrize("path", ["/?bucket=photos", "/?bucket=photos&q=a+cat", "/?bucket=many&similar={longest}"])
def test_nothing_is_wider_than_a_phone(open_tab: OpenTab, site: Site, path: str) -> None:
    longest = max(_everything(site, "many"), key=lambda image: len(image["key"]))["id"]
    tab = open_tab(path.format(longest=longest), width=390, height=844, is_mobile=True, has_touch=True)
    expect(tab.page.locator("main.is-ready")).to_be_visible()
    assert tab.page.evaluate("document.documentElement.scrollWidth") == 390
    assert tab.page.evaluate("innerWidth") == 390
    assert tab.shifts == []


def test_the_gallery_works_without_javascript(open_tab: OpenTab) -> None:
    tab = open_tab("/?bucket=many", java_script_enabled=False)
    first = tab.names()
    assert len(first) == 30
    tab.page.get_by_role("link", name="More", exact=True).click()
    assert not set(first) & set(tab.names())
    tab.page.goto(tab.page.url.split("?")[0] + "?bucket=photos")
    tab.page.fill("#q", "a cat")
    tab.page.press("#q", "Enter")
    expect(tab.page.locator("#title")).to_contain_text("a cat")
    assert parameters(tab.page) == {"bucket": "photos", "q": "a cat"}
    tab.page.locator(".tile-link").first.click()
    expect(tab.page.locator(".detail-image")).to_be_visible()


def test_images_appear_as_they_are_uploaded_and_lose_their_mark_as_they_become_searchable(
    open_tab: OpenTab, site: Site, photos: Path, tmp_path: Path
) -> None:
    source = sorted(photos.rglob("*.*"))
    folder = tmp_path / "live"
    folder.mkdir()

    def add(count: int) -> None:
        for path in source[:count]:
            path_here = folder / path.name
            path_here.write_bytes(path.read_bytes())
        del source[:count]
        assert site.syncer("upload", folder, "--bucket", "live").status == 0

    add(10)
    assert site.syncer("embed", "--bucket", "live").status == 0
    tab = open_tab("/?bucket=live", width=700, height=600)
    ready(tab.page)
    expect(tab.page.locator("#progress.is-done")).to_be_visible()
    add(3)
    expect(tab.page.locator("#count")).to_have_text("13 images")
    expect(tab.page.locator(".tile.is-pending")).to_have_count(3)
    assert {int(tile["position"]) for tile in tab.tiles()[:3]} == {1, 2, 3}

    expect(tab.page.locator(".grid.is-moving")).to_have_count(0)
    tab.page.evaluate("scrollTo(0, 500)")
    held = tab.tiles()[4]
    add(2)
    pill = tab.page.get_by_role("button", name="2 new images")
    expect(pill).to_be_visible()
    assert [tile for tile in tab.tiles() if tile["name"] == held["name"]] == [held], "nothing moves under the reader"
    pill.click()
    expect(tab.page.locator(".tile").first).to_have_attribute("aria-setsize", "15")
    assert tab.page.evaluate("scrollY") == 0

    search(tab.page, "a cat")
    assert site.syncer("embed", "--bucket", "live").status == 0
    tab.page.get_by_role("button", name="5 newly indexed images").click()
    expect(tab.page.locator("#new-images")).to_be_hidden()
    tab.page.go_back()
    expect(tab.page.locator("#title")).to_have_text("Recent")
    expect(tab.page.locator(".tile.is-pending")).to_have_count(0)
    expect(tab.page.locator("#progress.is-done")).to_be_visible()
    assert tab.shifts == []


def test_a_lost_progress_stream_is_taken_up_again(open_tab: OpenTab) -> None:
    tab = open_tab("/?bucket=photos", complaints=True)
    tab.page.route("**/api/stats/stream?*", lambda route: route.fulfill(status=503, body=""))
    tab.page.reload()
    ready(tab.page)
    expect(tab.page.locator("#progress.is-offline")).to_be_visible()
    tab.page.unroute("**/api/stats/stream?*")
    expect(tab.page.locator("#progress:not(.is-offline)")).to_be_visible()
