"""Searches and their results in Chromium."""

import json
import re
from urllib.parse import urljoin

import pytest
from playwright.sync_api import Route, expect

from tests.browser.conftest import MANY_COUNT, OpenTab, Site, parameters, ready, search

pytestmark = [pytest.mark.browser, pytest.mark.xdist_group("browser")]


def test_a_search_runs_without_a_page_load_and_has_a_url(open_gallery: OpenTab, site: Site) -> None:
    tab = open_gallery("/?bucket=photos")
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

    fresh = open_gallery("/?bucket=photos&q=a+cat")
    assert fresh.names() == names
    assert fresh.shifts == []


def test_a_slow_search_never_replaces_a_newer_one(open_gallery: OpenTab) -> None:
    tab = open_gallery("/?bucket=photos")
    pending: list[Route] = []
    tab.page.route("**/api/search?*q=slow*", lambda route: pending.append(route))
    tab.page.keyboard.press("/")
    tab.page.keyboard.type("slow")
    tab.page.keyboard.press("Enter")
    expect(tab.page.locator("#loading-bar")).to_be_visible()
    search(tab.page, "a rocket")
    names = tab.names()
    expect(tab.page.locator("#loading-bar")).to_be_hidden()
    assert pending
    assert parameters(tab.page)["q"] == "a rocket"
    assert tab.names() == names


def test_a_hostile_query_is_shown_as_text(open_gallery: OpenTab) -> None:
    query = "<img src=x onerror='alert(1)'>"
    tab = open_gallery("/?bucket=photos")
    search(tab.page, query)
    tab.page.reload()
    expect(tab.page.locator("#title")).to_contain_text(query)
    assert tab.page.input_value("#q") == query


def test_weak_matches_on_any_page_are_below_a_divider_and_can_be_hidden(open_gallery: OpenTab) -> None:
    tab = open_gallery("/?bucket=photos")
    # With pages of five, the first weak image is the last one of the second page.
    seen = 0

    def small_pages(route: Route) -> None:
        nonlocal seen
        response = route.fetch(url=re.sub("limit=[0-9]+", "limit=5", route.request.url))
        page = response.json()
        for image in page["images"]:
            image["weak"] = seen >= 9
            seen += 1
        route.fulfill(response=response, body=json.dumps(page))

    tab.page.route("**/api/search?*", small_pages)
    search(tab.page, "a motorcycle")
    divider = tab.page.locator(".divider")
    expect(divider).to_contain_text("Less relevant")
    expect(tab.page.locator("#end-of-list")).to_have_text(re.compile("^[0-9]+ images$"))
    box = divider.bounding_box()
    assert box is not None
    tiles = tab.tiles()
    expect(tab.page.locator("#count")).to_have_text("9 strong matches")
    assert all(tile.bottom <= box["y"] for tile in tiles[:9])
    assert all(tile.top >= box["y"] + box["height"] for tile in tiles[9:])
    assert tab.shifts == []
    tab.page.unroute("**/api/search?*")
    divider.get_by_role("link", name="Hide").click()
    expect(tab.page.locator("#active-filters")).to_contain_text("Relevant matches only")
    assert parameters(tab.page)["strict"] == "1"
    expect(divider).to_have_count(0)
    tab.page.go_back()
    expect(divider).to_have_count(1)


def test_a_nonsense_query_shows_the_closest_matches_or_none_if_strict(open_tab: OpenTab) -> None:
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


def test_a_failed_search_shows_the_reason_and_can_be_retried(open_gallery: OpenTab) -> None:
    tab = open_gallery("/?bucket=photos", allow_errors=True)
    problem = {"type": "about:blank", "title": "Unavailable", "status": 503, "detail": "The model <b>rests</b>."}
    tab.page.route(
        "**/api/search?*",
        lambda route: route.fulfill(status=503, content_type="application/problem+json", body=json.dumps(problem)),
    )
    search(tab.page, "a cat")
    expect(tab.page.get_by_role("alert")).to_contain_text("The model <b>rests</b>.")
    assert tab.all_shifts == []
    tab.page.unroute("**/api/search?*")
    tab.page.get_by_role("button", name="Try again").click()
    ready(tab.page)
    expect(tab.page.get_by_role("alert")).to_be_hidden()


def test_an_unknown_bucket_lists_the_available_collections(open_tab: OpenTab) -> None:
    for script in (True, False):
        tab = open_tab("/?bucket=nowhere", allow_errors=True, java_script_enabled=script)
        expect(tab.page.get_by_role("alert")).to_contain_text("Collection nowhere not found")
        tab.page.get_by_role("alert").get_by_role("link", name="photos").click()
        expect(tab.page.locator(".tile").first).to_be_visible()


def test_the_menu_switches_collections(open_gallery: OpenTab) -> None:
    tab = open_gallery("/?bucket=photos&q=a+cat")
    tab.page.locator(".collections summary").click()
    tab.page.get_by_role("link", name=re.compile("^many")).click()
    expect(tab.page.locator("#count")).to_have_text(f"{MANY_COUNT} images")
    assert parameters(tab.page) == {"bucket": "many"}


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


def test_a_search_while_images_are_pending_says_so(open_tab: OpenTab) -> None:
    tab = open_tab("/?bucket=many&q=zebra")
    expect(tab.page.locator("main.is-ready")).to_be_visible()
    expect(tab.page.locator("#empty")).to_contain_text(f"{MANY_COUNT} images are still being indexed")


def test_the_page_searches_as_one_types(open_gallery: OpenTab) -> None:
    tab = open_gallery("/?bucket=photos")
    entries = tab.page.evaluate("history.length")
    tab.page.keyboard.press("/")
    for words in ("a rocket", "a rocket at night"):
        tab.page.keyboard.type(words.removeprefix(tab.page.input_value("#q")))
        expect(tab.page.locator("#title")).to_have_text(f"Results for {words}")
        expect(tab.page.locator("#q")).to_be_focused()
    tab.page.keyboard.press("Enter")
    expect(tab.page.locator("#q")).not_to_be_focused()
    assert tab.page.evaluate("history.length") == entries + 1
    tab.page.go_back()
    expect(tab.page.locator("#title")).to_have_text("Recent")


def test_a_search_that_costs_money_waits_for_enter(open_gallery: OpenTab) -> None:
    tab = open_gallery("/?bucket=photos")
    tab.page.evaluate("delete document.querySelector('#q').dataset.live")
    tab.page.keyboard.press("/")
    tab.page.keyboard.type("a rocket")
    tab.page.wait_for_timeout(1000)
    expect(tab.page.locator("#title")).to_have_text("Recent")
    tab.page.keyboard.press("Enter")
    expect(tab.page.locator("#title")).to_contain_text("a rocket")


def test_shared_links_have_a_preview_and_the_page_can_be_installed(site: Site) -> None:
    page = site.server.http.get(site("/?bucket=photos")).text
    image = re.search(r'<meta property="og:image" content="([^"]+)">', page)
    assert image
    assert image[1].startswith(site.server.url)
    manifest = re.search(r'<link rel="manifest" href="([^"]+)">', page)
    assert manifest
    address = manifest[1]
    for icon in site.server.http.get(site(address)).json()["icons"]:
        assert site.server.http.get(urljoin(site(address), icon["src"])).status_code == 200


def test_recent_searches_are_offered_and_can_be_removed(open_gallery: OpenTab) -> None:
    tab = open_gallery("/?bucket=photos")
    for words in ("a cat", "a rocket"):
        search(tab.page, words)
    tab.page.get_by_role("button", name="Clear search").click()
    recent = tab.page.get_by_role("list", name="Recent searches")
    expect(recent.locator(".recent-search")).to_have_text(["a rocket", "a cat"])
    recent.get_by_role("button", name="Remove a rocket").click()
    expect(recent.locator(".recent-search")).to_have_text(["a cat"])
    expect(tab.page.locator("#q")).to_be_focused()
    tab.page.keyboard.press("ArrowDown")
    tab.page.keyboard.press("Enter")
    expect(tab.page.locator("#title")).to_have_text("Results for a cat")
    expect(recent).to_be_hidden()
    assert parameters(tab.page) == {"bucket": "photos", "q": "a cat"}
