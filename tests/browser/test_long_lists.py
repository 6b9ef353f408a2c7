"""The first screen and very long lists in Chromium."""

import gzip
from collections.abc import Iterator

import psycopg
import pytest
from playwright.sync_api import Page, expect

from tests.browser.conftest import OpenTab, Site, parameters
from tests.helpers.pictures import make_pictures

pytestmark = [pytest.mark.browser, pytest.mark.xdist_group("browser")]

COLUMNS = "size, width, height, derivatives, truncated, origin, sha256, content_type, keywords"
FIRST_IN_VIEW = """() => {
  const tiles = [...document.querySelectorAll(".tile")];
  const tile = tiles.find((tile) => tile.getBoundingClientRect().top >= 64);
  return [tile.dataset.id, Math.round(tile.getBoundingClientRect().top)];
}"""


@pytest.fixture(scope="module")
def deep(site: Site, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A collection of 4,010 images, of which 4,000 are copies of ten."""
    folder = tmp_path_factory.mktemp("deep")
    make_pictures(folder, 10)
    assert site.syncer("upload", folder, "--bucket", "deep").status == 0
    with psycopg.connect(site.environment["DATABASE_URL"]) as conn:
        conn.execute(
            f"INSERT INTO deep_images (created_at, r2_key, {COLUMNS})"
            f" SELECT created_at - make_interval(secs => n), n || r2_key, {COLUMNS}"
            " FROM deep_images, generate_series(1, 400) AS n"
        )
        conn.execute(
            "INSERT INTO deep_embeddings (id, created_at, r2_key) SELECT id, created_at, r2_key FROM deep_images"
            " WHERE id NOT IN (SELECT id FROM deep_embeddings)"
        )
    yield "deep"
    assert site.syncer("drop", "--bucket", "deep", "--yes").status == 0


def scroll_until(page: Page, condition: str) -> None:
    """Scroll down screen by screen until a condition on the positions of the tiles holds."""
    page.wait_for_function(
        f"""() => {{
          const positions = [...document.querySelectorAll(".tile")].map((tile) => Number(tile.ariaPosInSet));
          if ({condition}) return true;
          scrollBy(0, 2 * innerHeight);
          return false;
        }}""",
        timeout=120_000,
    )


def test_a_long_list_is_shown_in_full_and_reloads_at_the_same_row(open_gallery: OpenTab, deep: str) -> None:
    tab = open_gallery(f"/?bucket={deep}")
    first = tab.names()[0]
    scroll_until(tab.page, "Math.max(...positions) === 4010")
    assert tab.page.evaluate("document.querySelectorAll('*').length") < 1500
    expect(tab.page.locator("#end-of-list")).to_have_text("4,010 images")
    tab.page.evaluate("scrollTo(0, 0)")
    expect(tab.page.locator(".tile-image").first).to_have_attribute("alt", first)
    # The images in the middle have been dropped, and are loaded again.
    tab.page.evaluate("scrollTo(0, document.documentElement.scrollHeight / 2)")
    tab.page.wait_for_function("() => document.querySelectorAll('.tile').length > 20")
    tab.page.wait_for_timeout(500)  # the position is saved when scrolling stops
    before = tab.page.evaluate(FIRST_IN_VIEW)

    tab.page.reload()
    tab.page.wait_for_function(f"(before) => String(({FIRST_IN_VIEW})()) === String(before)", arg=before)
    # From there the list continues in both directions.
    scroll_until(tab.page, "document.querySelector('#end-of-list.is-end')")
    tab.page.wait_for_function(
        """(first) => {
          scrollTo(0, 0);
          return document.querySelector(".tile-image")?.alt === first;
        }""",
        arg=first,
    )


def test_the_images_are_in_place_before_the_script_has_loaded(open_tab: OpenTab, site: Site) -> None:
    tab = open_tab("/?bucket=photos&q=a+cat", allow_errors=True)
    expect(tab.page.locator("main.is-ready")).to_be_visible()
    expected = [(tile.name, tile.left, tile.top) for tile in tab.tiles()]
    tab.page.route("**/js/gallery.js", lambda route: route.abort())
    tab.page.reload()
    expect(tab.page.locator(".tile").first).to_be_visible()
    assert [(tile.name, tile.left, tile.top) for tile in tab.tiles()][: len(expected)] == expected
    assert parameters(tab.page)["q"] == "a cat"


def test_the_first_screen_needs_few_small_files(open_gallery: OpenTab, site: Site) -> None:
    tab = open_gallery("/?bucket=photos")
    files = [path for path in tab.requests if path.endswith((".js", ".css"))]
    assert len(files) <= 4
    assert sum(compressed_size(site, path) for path in files) < 60_000
    # TCP's initial congestion window, less the headers.
    assert compressed_size(site, "/?bucket=photos") < 13_500


def compressed_size(site: Site, path: str) -> int:
    return len(gzip.compress(site.server.http.get(path).content, 4))
