"""Images that arrive while the page is open, in Chromium."""

import shutil
from pathlib import Path

import pytest
from playwright.sync_api import Browser, expect

from tests.browser.conftest import OpenTab, Site, ready, search
from tests.helpers.processes import serving

pytestmark = [pytest.mark.browser, pytest.mark.xdist_group("browser")]


def test_the_first_collection_appears_automatically(
    chromium: Browser, site: Site, photos: Path, tmp_path: Path
) -> None:
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


def test_images_appear_when_uploaded_and_lose_the_pending_status_when_indexed(
    open_gallery: OpenTab, site: Site, photos: Path, tmp_path: Path
) -> None:
    source = sorted(photos.rglob("*.*"))
    folder = tmp_path / "live"
    folder.mkdir()

    def add(count: int) -> None:
        for path in source[:count]:
            shutil.copy(path, folder)
        del source[:count]
        assert site.syncer("upload", folder, "--bucket", "live").status == 0

    add(10)
    assert site.syncer("embed", "--bucket", "live").status == 0
    tab = open_gallery("/?bucket=live", width=700, height=600)
    expect(tab.page.locator("#progress.is-done")).to_be_visible()
    add(3)
    expect(tab.page.locator("#count")).to_have_text("13 images")
    expect(tab.page.locator(".tile.is-pending")).to_have_count(3)
    assert {tile.position for tile in tab.tiles()[:3]} == {1, 2, 3}

    expect(tab.page.locator(".grid.is-moving")).to_have_count(0)
    tab.page.evaluate("scrollTo(0, 500)")
    in_view = tab.tiles()[4]
    add(2)
    button = tab.page.get_by_role("button", name="2 new images")
    expect(button).to_be_visible()
    assert [tile for tile in tab.tiles() if tile.name == in_view.name] == [in_view], "tiles in view never move"
    button.click()
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


def test_a_lost_progress_stream_reconnects(open_tab: OpenTab) -> None:
    tab = open_tab("/?bucket=photos", allow_errors=True)
    tab.page.route("**/api/stats/stream?*", lambda route: route.fulfill(status=503, body=""))
    tab.page.reload()
    ready(tab.page)
    expect(tab.page.locator("#progress.is-offline")).to_be_visible()
    tab.page.unroute("**/api/stats/stream?*")
    expect(tab.page.locator("#progress:not(.is-offline)")).to_be_visible()
