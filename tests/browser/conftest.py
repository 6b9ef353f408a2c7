"""A real Chromium on a real server: one server with two collections for all tests of a worker."""

import os
import shutil
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import parse_qs, urlsplit
from uuid import uuid4

import numpy as np
import psycopg
import pytest
from PIL import ExifTags, Image
from playwright.sync_api import Browser, BrowserContext, Page, expect, sync_playwright
from psycopg import sql

from tests.helpers.processes import CLEAN_ENVIRONMENT, Server, Syncer, serving

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
    # A folder whose name ends in "<", so that the key holds a closing tag.
    "<script>alert(1)</script>.jpg",
    "'><img src=x onerror=alert(1)>.jpg",
    "{{ 7*7 }}&amp;#%20?.jpg",
    "\u202egpj.exe \u05e9\u05dc\u05d5\u05dd.jpg",
    "smile \U0001f98a " + "long" * 40 + ".jpg",
]

MANY = 150
CAMERA = "Camera One"  # of every tenth picture
EXPOSURE = {
    ExifTags.Base.ExposureTime: 0.008,
    ExifTags.Base.FNumber: 2.8,
    ExifTags.Base.ISOSpeedRatings: 400,
    ExifTags.Base.FocalLength: 35.0,
}

# What moved, apart what no key or click explains, and what the content policy refused, from the first moment on.
OBSERVERS = """
window.moves = []; window.shifts = []; window.violations = [];
new PerformanceObserver((list) => {
  for (const entry of list.getEntries()) {
    const moved = entry.sources.map(({ node, previousRect: from, currentRect: to }) =>
      `${node?.id || node?.className || node?.nodeName} ${from.x},${from.y} -> ${to.x},${to.y}`);
    window.moves.push(`${entry.value} ${moved}`);
    if (!entry.hadRecentInput) window.shifts.push(`${entry.value} ${moved}`);
  }
}).observe({ type: "layout-shift", buffered: true });
document.addEventListener("securitypolicyviolation", (event) => window.violations.push(event.violatedDirective));
"""

# A machine that runs other tests beside these is slow at times.
expect.set_options(timeout=20_000)


@pytest.fixture(scope="session")
def chromium_path() -> str:
    """Where the installed Chromium is; without one the test is skipped, or fails where REQUIRE_CHROMIUM=1."""
    found = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
    if found is None:
        reason = "no Chromium on the PATH (Debian: apt-get install chromium)"
        if os.environ.get("REQUIRE_CHROMIUM") == "1":
            pytest.fail(reason)
        pytest.skip(reason)
    return found


# Not for the whole session: Playwright keeps an event loop running in this thread, in which async tests cannot run.
@pytest.fixture(scope="module")
def chromium(chromium_path: str, site: "Site") -> Iterator[Browser]:
    """A running Chromium."""
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium_path, args=FLAGS)
        yield browser
        browser.close()


@pytest.fixture(scope="session")
def many(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of pictures of every shape, some with hostile names."""
    folder = tmp_path_factory.mktemp("many")
    random = np.random.default_rng(7)
    for number in range(MANY - len(HOSTILE_NAMES)):
        camera = CAMERA if number % 10 == 0 else ""
        _picture(random, folder / f"{number % 5}" / f"picture_{number:03}.jpg", camera)
    for name in HOSTILE_NAMES:
        _picture(random, folder / "hostile" / name)
    return folder


def _picture(random: np.random.Generator, path: Path, camera: str = "") -> None:
    size = (int(random.integers(200, 900)), int(random.integers(200, 900)))
    corners = random.integers(0, 255, (2, 2, 3), dtype=np.uint8)
    path.parent.mkdir(parents=True, exist_ok=True)
    exif = Image.Exif()
    if camera:
        exif[ExifTags.Base.Model] = camera
        exif.get_ifd(ExifTags.IFD.Exif).update(EXPOSURE)
    Image.fromarray(corners).resize(size, Image.Resampling.BICUBIC).save(path, quality=80, exif=exif)


@dataclass(frozen=True)
class Site:
    """A server with the collections ``photos`` (samples, embedded) and ``many`` (uploaded only)."""

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
    """The server that all browser tests of this worker look at."""
    home = tmp_path_factory.mktemp("browser home")
    models = shared_folder / "models"
    models.mkdir(exist_ok=True)
    (home / "models").symlink_to(models)
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


@dataclass
class Tab:
    """A page of the browser, and what went by on its wire and its console."""

    page: Page
    requests: list[str] = field(default_factory=list)
    complaints: list[str] = field(default_factory=list)

    @property
    def shifts(self) -> list[str]:
        """What moved by itself, and how far."""
        return self._moved("shifts")

    @property
    def moves(self) -> list[str]:
        """What moved, be it right after a key or a click."""
        return self._moved("moves")

    def _moved(self, which: str) -> list[str]:
        # Two frames, so that the last one has been reported.
        self.page.evaluate("() => new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done)))")
        moved: list[str] = self.page.evaluate(f"window.{which}")
        return moved

    def tiles(self) -> list[dict[str, float | str]]:
        """The tiles that have elements, in the order of the document."""
        tiles: list[dict[str, float | str]] = self.page.evaluate(
            """() => [...document.querySelectorAll(".grid > .tile")].map((tile) => {
              const box = tile.getBoundingClientRect();
              return { position: Number(tile.ariaPosInSet), name: tile.querySelector(".tile-image").alt,
                       left: box.left, top: box.top + scrollY, right: box.right, bottom: box.bottom + scrollY };
            })"""
        )
        return tiles

    def names(self) -> list[str]:
        return [str(tile["name"]) for tile in self.tiles()]


OpenTab = Callable[..., Tab]


def ready(page: Page) -> None:
    """Wait until the wall shows something."""
    expect(page.locator(".grid.is-ready .tile").first).to_be_visible()


def search(page: Page, text: str) -> None:
    """Search with the keyboard."""
    page.keyboard.press("/")
    page.keyboard.type(text)
    page.keyboard.press("Enter")
    expect(page.locator("#title")).to_contain_text(text)


def parameters(page: Page) -> dict[str, str]:
    """What the page's address holds; of what it holds several times, the first."""
    return {name: values[0] for name, values in parse_qs(urlsplit(page.url).query).items()}


@pytest.fixture
def open_tab(chromium: Browser, site: Site) -> Iterator[OpenTab]:
    """Open an address of the site in a fresh browser context; at the end, no tab may have complained."""
    contexts: list[BrowserContext] = []
    tabs: list[Tab] = []

    def open_tab(path: str, *, width: int = 1280, height: int = 800, complaints: bool = False, **options: bool) -> Tab:
        context = chromium.new_context(viewport={"width": width, "height": height}, **options)  # type: ignore[arg-type]
        contexts.append(context)
        context.set_default_timeout(30_000)
        context.add_init_script(OBSERVERS)
        tab = Tab(context.new_page())
        tab.page.on("request", lambda request: tab.requests.append(request.url.removeprefix(site.server.url)))
        tab.page.on("dialog", lambda dialog: (tab.complaints.append(f"alert: {dialog.message}"), dialog.dismiss()))
        tab.page.on("pageerror", lambda error: tab.complaints.append(str(error)))
        tab.page.on(
            "console", lambda said: tab.complaints.append(said.text) if said.type in ("error", "warning") else None
        )
        if not complaints:
            tabs.append(tab)
        tab.page.goto(site(path))
        return tab

    yield open_tab
    for tab in tabs:
        if tab.page.evaluate("'violations' in window"):
            assert tab.page.evaluate("window.violations") == []
        assert tab.complaints == []
    for context in contexts:
        context.close()
