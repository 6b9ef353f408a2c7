"""A real Chromium and a real server: one server with two collections for all tests of a worker."""

import os
import shutil
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple
from urllib.parse import parse_qs, urlsplit
from uuid import uuid4

import numpy as np
import psycopg
import pytest
from PIL import ExifTags, Image
from playwright.sync_api import Browser, BrowserContext, ConsoleMessage, Page, expect, sync_playwright
from psycopg import sql

from tests.helpers.pictures import picture
from tests.helpers.processes import CLEAN_ENVIRONMENT, Server, Syncer, make_home, serving

FLAGS = [
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]

HOSTILE_NAMES = [
    'x" onerror="alert(1)" y=".jpg',
    # A folder whose name ends in "<", so that the key contains a closing tag.
    "<script>alert(1)</script>.jpg",
    "'><img src=x onerror=alert(1)>.jpg",
    "{{ 7*7 }}&amp;#%20?.jpg",
    "\u202egpj.exe \u05e9\u05dc\u05d5\u05dd.jpg",
    "smile \U0001f98a " + "long" * 40 + ".jpg",
]

MANY_COUNT = 150
CAMERA = "Camera One"  # of every tenth image
EXPOSURE = {
    ExifTags.Base.ExposureTime: 0.008,
    ExifTags.Base.FNumber: 2.8,
    ExifTags.Base.ISOSpeedRatings: 400,
    ExifTags.Base.FocalLength: 35.0,
}

# Record layout shifts (all of them, and those without recent input) and CSP violations from the start.
OBSERVERS = """
window.allShifts = []; window.shifts = []; window.violations = [];
new PerformanceObserver((list) => {
  for (const entry of list.getEntries()) {
    const nodes = entry.sources.map(({ node, previousRect: from, currentRect: to }) =>
      `${node?.id || node?.className || node?.nodeName} ${from.x},${from.y} -> ${to.x},${to.y}`);
    window.allShifts.push(`${entry.value} ${nodes}`);
    if (!entry.hadRecentInput) window.shifts.push(`${entry.value} ${nodes}`);
  }
}).observe({ type: "layout-shift", buffered: true });
document.addEventListener("securitypolicyviolation", (event) => window.violations.push(event.violatedDirective));
"""

# Other tests may run on the machine at the same time.
expect.set_options(timeout=20_000)


@pytest.fixture(scope="session")
def chromium_path() -> str:
    """The path of the installed Chromium. Without one, skip the test, or fail it if REQUIRE_CHROMIUM=1."""
    found = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
    if found is None:
        reason = "no Chromium on the PATH (Debian: apt-get install chromium)"
        if os.environ.get("REQUIRE_CHROMIUM") == "1":
            pytest.fail(reason)
        pytest.skip(reason)
    return found


# Not session-scoped: Playwright keeps an event loop running in this thread, and async tests cannot run beside it.
@pytest.fixture(scope="module")
def chromium(chromium_path: str, site: "Site") -> Iterator[Browser]:
    """A running Chromium."""
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium_path, args=FLAGS)
        yield browser
        browser.close()


@pytest.fixture(scope="session")
def many(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of images of every shape, some with hostile names."""
    folder = tmp_path_factory.mktemp("many")
    ordinary = [f"{number % 5}/picture_{number:03}.jpg" for number in range(MANY_COUNT - len(HOSTILE_NAMES))]
    for number, name in enumerate([*ordinary, *(f"hostile/{name}" for name in HOSTILE_NAMES)]):
        width, height = np.random.default_rng(number).integers(200, 900, 2)
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        exif = _exif() if number % 10 == 0 else Image.Exif()
        path.write_bytes(picture(number, (int(width), int(height)), quality=80, exif=exif))
    return folder


def _exif() -> Image.Exif:
    exif = Image.Exif()
    exif[ExifTags.Base.Model] = CAMERA
    exif.get_ifd(ExifTags.IFD.Exif).update(EXPOSURE)
    return exif


@dataclass(frozen=True)
class Site:
    """A server with the collections ``photos`` (sample photos, embedded) and ``many`` (uploaded only)."""

    server: Server
    syncer: Syncer
    environment: Mapping[str, str]

    def __call__(self, path: str) -> str:
        return self.server.url + path


@pytest.fixture(scope="session")
def site(
    chromium_path: str,
    postgres: str,
    template: str,
    photos: Path,
    many: Path,
    shared_folder: Path,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Site]:
    """The server of all browser tests of this worker."""
    home = make_home(tmp_path_factory.mktemp("browser") / "home", shared_folder)
    name = f"test_{uuid4().hex[:12]}"
    environment: Mapping[str, str] = CLEAN_ENVIRONMENT | {
        "DATABASE_URL": postgres.replace("/image_browser?", f"/{name}?"),
        "IMAGE_BROWSER_HOME": str(home),
        "EMBEDDER": "offline",
    }
    with psycopg.connect(postgres, autocommit=True) as conn:
        conn.execute(sql.SQL("CREATE DATABASE {} TEMPLATE {}").format(sql.Identifier(name), sql.Identifier(template)))
    syncer = Syncer(dict(environment))
    for arguments in (("sync", photos, "--bucket", "photos"), ("upload", many, "--bucket", "many")):
        done = syncer(*arguments, timeout=240)
        assert done.status == 0, done.stderr
    with serving(environment, home / "server.log") as server:
        yield Site(server, syncer, environment)
    with psycopg.connect(postgres, autocommit=True) as conn:
        conn.execute(sql.SQL("DROP DATABASE {} WITH (FORCE)").format(sql.Identifier(name)))


class Tile(NamedTuple):
    """A tile of the grid, with its box in pixels from the top left corner of the document."""

    position: int
    name: str
    left: float
    top: float
    right: float
    bottom: float


@dataclass
class Tab:
    """A page of the browser, with its requests and console messages."""

    page: Page
    requests: list[str] = field(default_factory=list)
    errors: list[str] = field(default_factory=list)

    def record_console(self, message: ConsoleMessage) -> None:
        if message.type in ("error", "warning"):
            self.errors.append(message.text)

    @property
    def shifts(self) -> list[str]:
        """The layout shifts without recent input."""
        return self._recorded("shifts")

    @property
    def all_shifts(self) -> list[str]:
        """The layout shifts, including those right after a key or a click."""
        return self._recorded("allShifts")

    def _recorded(self, name: str) -> list[str]:
        # The browser reports the shifts of a frame after the next one.
        self.page.evaluate("() => new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done)))")
        shifts: list[str] = self.page.evaluate(f"window.{name}")
        return shifts

    def tiles(self) -> list[Tile]:
        """The rendered tiles, in document order."""
        tiles = self.page.evaluate(
            """() => [...document.querySelectorAll(".grid > .tile")].map((tile) => {
              const box = tile.getBoundingClientRect();
              return [Number(tile.ariaPosInSet), tile.querySelector(".tile-image").alt,
                      box.left, box.top + scrollY, box.right, box.bottom + scrollY];
            })"""
        )
        return [Tile(*tile) for tile in tiles]

    def names(self) -> list[str]:
        return [tile.name for tile in self.tiles()]


OpenTab = Callable[..., Tab]


def ready(page: Page) -> None:
    """Wait until the grid shows an image."""
    expect(page.locator("main.is-ready .tile").first).to_be_visible()


def search(page: Page, text: str) -> None:
    """Search with the keyboard."""
    page.keyboard.press("/")
    page.keyboard.type(text)
    page.keyboard.press("Enter")
    expect(page.locator("#title")).to_contain_text(text)


def parameters(page: Page) -> dict[str, str]:
    """The parameters of the page's URL; of repeated ones, the first."""
    return {name: values[0] for name, values in parse_qs(urlsplit(page.url).query).items()}


def all_terms(page: Page) -> list[str]:
    """The terms in the page's URL, beside ``q``."""
    return parse_qs(urlsplit(page.url).query).get("term", [])


def file_name(key: str) -> str:
    return key.rsplit("/", 1)[-1]


def all_images(site: Site) -> list[dict[str, str]]:
    """The images of ``many``."""
    images: list[dict[str, str]] = site.server.get("/api/images", bucket="many", limit=200)["images"]
    return images


@pytest.fixture
def open_tab(chromium: Browser, site: Site) -> Iterator[OpenTab]:
    """Open a path of the site in a new browser context. At the end no tab may have errors, unless it allows them."""
    contexts: list[BrowserContext] = []
    tabs: list[Tab] = []

    def open_tab(
        path: str, *, width: int = 1280, height: int = 800, allow_errors: bool = False, **options: bool
    ) -> Tab:
        context = chromium.new_context(viewport={"width": width, "height": height}, **options)  # type: ignore[arg-type]
        contexts.append(context)
        context.set_default_timeout(30_000)
        context.add_init_script(OBSERVERS)
        tab = Tab(context.new_page())
        tab.page.on("request", lambda request: tab.requests.append(request.url.removeprefix(site.server.url)))
        tab.page.on("dialog", lambda dialog: (tab.errors.append(f"alert: {dialog.message}"), dialog.dismiss()))
        tab.page.on("pageerror", lambda error: tab.errors.append(str(error)))
        tab.page.on("console", tab.record_console)
        if not allow_errors:
            tabs.append(tab)
        tab.page.goto(site(path))
        return tab

    yield open_tab
    for tab in tabs:
        if tab.page.evaluate("'violations' in window"):
            assert tab.page.evaluate("window.violations") == []
        assert tab.errors == []
    for context in contexts:
        context.close()


@pytest.fixture
def open_gallery(open_tab: OpenTab) -> OpenTab:
    """Like ``open_tab``, and wait until the grid shows an image."""

    def open_gallery(path: str, **options: int | bool) -> Tab:
        tab = open_tab(path, **options)
        ready(tab.page)
        return tab

    return open_gallery
