"""Adding images to a collection in Chromium."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Page, Route, expect

from tests.browser.conftest import OpenTab, Site, parameters, ready
from tests.helpers.pictures import make_pictures, picture
from tests.helpers.processes import Server, serving

pytestmark = [pytest.mark.browser, pytest.mark.xdist_group("browser")]

TOKEN = "a-token-that-adds"


@pytest.fixture
def writable(site: Site, tmp_path: Path) -> Iterator[Server]:
    """A server with the collection ``added``, to which API_TOKEN may add images."""
    make_pictures(tmp_path / "pictures", 2, first=2000)
    assert site.syncer("upload", tmp_path / "pictures", "--bucket", "added").status == 0
    with serving({**site.environment, "API_TOKEN": TOKEN, "BUCKETS": "added"}, tmp_path / "server.log") as server:
        yield server
    assert site.syncer("drop", "--bucket", "added", "--yes").status == 0


@pytest.fixture
def page(open_tab: OpenTab, writable: Server) -> Page:
    """The gallery of a user who has signed in with API_TOKEN."""
    page = open_tab("/healthz", allow_errors=True).page
    page.goto(f"{writable.url}/sign-in")
    page.get_by_label("Token").fill(TOKEN)
    page.get_by_role("button", name="Sign in").click()
    ready(page)
    expect(page.get_by_role("button", name="Add images")).to_be_enabled()
    return page


def test_files_and_folders_are_added_and_failures_listed(page: Page, writable: Server, tmp_path: Path) -> None:
    folder = tmp_path / "Trip"
    make_pictures(folder, 3, first=2100)
    (folder / "notes.txt").write_text("no image")
    (folder / ".hidden.jpg").write_bytes(picture(2200))
    busy = iter([503])

    def refuse_once(route: Route) -> None:
        if next(busy, None):
            route.fulfill(status=503, json={"detail": "busy"})
        else:
            route.continue_()

    page.route("**/api/images?*key=*", refuse_once)
    page.get_by_role("button", name="Add images").click()
    with page.expect_file_chooser() as chooser:
        page.get_by_role("button", name="Choose a folder").click()
    chooser.value.set_files(folder)
    expect(page.locator("#upload-status")).to_have_text("3 images added, 1 failed")
    expect(page.locator("#upload-errors li")).to_have_count(1)
    expect(page.locator("#upload-errors")).to_contain_text("Trip/notes.txt: ")
    added = {key for key in writable.keys("/api/images", bucket="added", limit=200) if key.startswith("Trip/")}
    assert added == {f"Trip/{path.relative_to(folder)}" for path in folder.rglob("picture*")}

    file = tmp_path / "boat.jpg"
    file.write_bytes(picture(2300))
    with page.expect_file_chooser() as chooser:
        page.get_by_role("button", name="Choose files").click()
    chooser.value.set_files(file)
    expect(page.locator("#upload-status")).to_have_text("1 image added")
    expect(page.locator("#upload-errors")).to_be_hidden()
    assert "boat.jpg" in writable.keys("/api/images", bucket="added", limit=200)
    page.keyboard.press("Escape")
    expect(page.locator("#upload")).to_be_hidden()


def test_dropped_files_are_added_or_searched_with(page: Page, writable: Server) -> None:
    def drop(name: str, seed: int) -> None:
        page.evaluate(
            """([name, bytes]) => {
              const data = new DataTransfer();
              data.items.add(new File([new Uint8Array(bytes)], name, { type: "image/jpeg" }));
              const event = new DragEvent("drop", { dataTransfer: data, bubbles: true, cancelable: true });
              document.querySelector("main").dispatchEvent(event);
            }""",
            [name, list(picture(seed))],
        )

    drop("ship.jpg", 2400)
    page.get_by_role("button", name="Add to the collection").click()
    expect(page.locator("#upload-status")).to_have_text("1 image added")
    assert "ship.jpg" in writable.keys("/api/images", bucket="added", limit=200)
    page.keyboard.press("Escape")
    drop("like this.jpg", 2500)
    page.get_by_role("button", name="Search with it").click()
    expect(page.locator("#chips .chip")).to_have_count(1)
    page.wait_for_url("**term=query_image*")
    assert "term" in parameters(page)
    assert "like this.jpg" not in writable.keys("/api/images", bucket="added", limit=200)
