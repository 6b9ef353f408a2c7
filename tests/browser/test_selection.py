"""Selecting images in Chromium, and what can be done with them."""

import io
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Page, expect

from tests.browser.conftest import OpenTab, Site, file_name, ready
from tests.helpers.pictures import make_pictures
from tests.helpers.processes import Server, serving

pytestmark = [pytest.mark.browser, pytest.mark.xdist_group("browser")]

TOKEN = "a-token-that-writes"


@pytest.fixture(scope="module")
def writable(site: Site, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A server with the collection ``own``, whose images API_TOKEN may delete."""
    folder = tmp_path_factory.mktemp("own")
    make_pictures(folder / "pictures", 12, first=1000)
    assert site.syncer("upload", folder / "pictures", "--bucket", "own").status == 0
    with serving({**site.environment, "API_TOKEN": TOKEN, "BUCKETS": "own"}, folder / "server.log") as server:
        yield server
    assert site.syncer("drop", "--bucket", "own", "--yes").status == 0


def checkbox(page: Page, index: int) -> None:
    page.locator(".tile").nth(index).hover()
    page.locator(".tile-check").nth(index).click()


def test_chosen_images_are_downloaded_and_their_links_copied(open_gallery: OpenTab, site: Site) -> None:
    tab = open_gallery("/?bucket=photos&q=a+cat")
    page, count = tab.page, tab.page.locator("#selection-count")
    hits = site.server.get("/api/search", bucket="photos", q="a cat", limit=30)["images"]
    expect(page.locator("#selection")).to_be_hidden()
    checkbox(page, 1)
    expect(count).to_have_text("1 selected")
    page.keyboard.down("Shift")
    checkbox(page, 4)
    page.keyboard.up("Shift")
    expect(count).to_have_text("4 selected")
    checkbox(page, 2)
    expect(count).to_have_text("3 selected")
    with page.expect_download() as download:
        page.get_by_role("button", name="Download ZIP").click()
    archive = zipfile.ZipFile(io.BytesIO(Path(download.value.path()).read_bytes()))
    assert archive.namelist() == [hits[index]["key"] for index in (1, 3, 4)]
    with page.expect_download() as download:
        page.get_by_role("button", name="CSV").click()
    rows = Path(download.value.path()).read_text(encoding="utf-8-sig").splitlines()
    assert [float(row.rsplit(",", 1)[1]) for row in rows[1:]] == pytest.approx(
        [hits[index]["score"] for index in (1, 3, 4)], abs=1e-4
    )
    page.context.grant_permissions(["clipboard-read", "clipboard-write"])
    page.get_by_role("button", name="Copy links").click()
    expect(count).to_have_text("3 links copied")
    copied = page.evaluate("navigator.clipboard.readText()").splitlines()
    assert [file_name(link).partition("?")[0] for link in copied] == [file_name(hits[i]["key"]) for i in (1, 3, 4)]
    page.keyboard.press("Escape")
    expect(page.locator("#selection")).to_be_hidden()
    expect(page.locator("#title")).to_contain_text("a cat")
    assert tab.shifts == []


def test_keys_a_box_and_a_button_select(open_gallery: OpenTab) -> None:
    tab = open_gallery("/?bucket=many")
    page, count = tab.page, tab.page.locator("#selection-count")
    page.keyboard.press("ArrowDown")
    page.keyboard.press("x")
    for _ in range(3):
        page.keyboard.press("ArrowRight")
    page.keyboard.press("X")
    expect(count).to_have_text("4 selected")
    page.keyboard.press("Escape")
    first, last = page.locator(".tile").nth(0).bounding_box(), page.locator(".tile").nth(1).bounding_box()
    assert first
    assert last
    page.mouse.move(first["x"] - 6, first["y"] + 30)
    page.mouse.down()
    page.mouse.move(last["x"] + 20, last["y"] + 40, steps=4)
    page.mouse.up()
    expect(count).to_have_text("2 selected")
    expect(page.locator(".tile-check:checked")).to_have_count(2)
    page.get_by_role("button", name="Select all").click()
    expect(count).to_have_text("150 selected")
    page.keyboard.press("End")
    expect(page.locator(".tile-check").last).to_be_checked()


def test_all_that_match_a_search_are_selected(open_gallery: OpenTab, site: Site) -> None:
    tab = open_gallery("/?bucket=photos&q=a+cat", width=390, height=844, has_touch=True, is_mobile=True)
    strong = site.server.get("/api/search", bucket="photos", q="a cat", strict=1, limit=200)["images"]
    expect(tab.page.locator(".tile-check").first).to_be_hidden()
    tab.page.get_by_role("button", name="Select images").tap()
    expect(tab.page.get_by_role("button", name="Download ZIP")).to_be_disabled()
    tab.page.locator(".tile-link").nth(len(strong)).tap()
    tab.page.get_by_role("button", name="Select all").tap()
    expect(tab.page.locator("#selection-count")).to_have_text(f"{len(strong) + 1} selected")
    box = tab.page.locator("#selection").bounding_box()
    assert box
    assert box["x"] >= 0
    assert box["x"] + box["width"] <= 390


def test_the_form_works_without_javascript(open_tab: OpenTab, site: Site) -> None:
    tab = open_tab("/?bucket=photos", java_script_enabled=False)
    tab.page.locator(".tile-check").nth(2).check()
    with tab.page.expect_download() as download:
        tab.page.get_by_role("button", name="Download ZIP").click()
    archive = zipfile.ZipFile(io.BytesIO(Path(download.value.path()).read_bytes()))
    assert archive.namelist() == [site.server.get("/api/images", bucket="photos", limit=3)["images"][2]["key"]]


def test_a_deletion_can_be_undone_for_some_seconds(open_tab: OpenTab, writable: Server) -> None:
    page = open_tab("/healthz", allow_errors=True).page
    page.goto(f"{writable.url}/?bucket=own")
    ready(page)
    expect(page.locator("#delete-selected")).to_have_count(0)
    page.get_by_role("link", name="Sign in").click()
    page.get_by_label("Token").fill(TOKEN)
    page.get_by_role("button", name="Sign in").click()
    ready(page)
    before = writable.keys("/api/images", bucket="own", limit=200)
    page.clock.install()
    checkbox(page, 0)
    checkbox(page, 1)
    page.get_by_role("button", name="Delete").click()
    expect(page.locator("#selection-count")).to_contain_text("Deleting 2 images in")
    page.get_by_role("button", name="Undo").click()
    expect(page.locator("#selection-count")).to_have_text("2 selected")
    page.clock.run_for(20_000)
    assert writable.keys("/api/images", bucket="own", limit=200) == before
    page.route("**/api/images/*", lambda route: route.abort())
    page.get_by_role("button", name="Delete").click()
    page.clock.run_for(20_000)
    expect(page.locator("#selection-count")).to_contain_text("Can’t reach the server")
    page.unroute("**/api/images/*")
    page.get_by_role("button", name="Delete").click()
    page.clock.run_for(20_000)
    expect(page.locator(f".tile-image[alt='{file_name(before[0])}']")).to_have_count(0)
    assert writable.keys("/api/images", bucket="own", limit=200) == before[2:]
    expect(page.locator("#selection")).to_be_hidden()
