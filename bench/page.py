"""Measure the gallery in Chromium: the first screen on a phone, and a long list that is scrolled to its end.

    python -m bench.page [--photos 1000] [--rows 100000] [--runs 5]

Lighthouse, fetched from npm, loads a gallery of crops of the sample photos with its phone profile. Then rows that share
these thumbnails are added, and a window of 1280 x 800 pixels scrolls three windows per frame to the end of the list and
reloads at 71 %. Long tasks include the time that other programs take from the browser.
"""

import argparse
import asyncio
import json
import os
import random
import shutil
import statistics
import subprocess
import tempfile
from pathlib import Path
from typing import Any

import psycopg
from PIL import Image
from playwright.sync_api import CDPSession, Page, sync_playwright

from shared.db import embedded
from shared.sample_photos import sample_photos
from tests.helpers.processes import Syncer, make_environment, serving

BUCKET = "page"
SIZES = [(1600, 1067), (1600, 1200), (1067, 1600), (1200, 1200), (1600, 900), (1200, 1600)]
AUDITS = ["first-contentful-paint", "largest-contentful-paint", "total-blocking-time", "cumulative-layout-shift"]
# Images that share the files of others.
ADD_IMAGES = """
INSERT INTO page_images (created_at, r2_key, size, width, height, derivatives, truncated, origin, sha256, content_type,
                         keywords, placeholder)
SELECT created_at - make_interval(secs => n), n || r2_key, size, width, height, derivatives, truncated, origin, sha256,
       content_type, keywords, placeholder
  FROM page_images, generate_series(1, %s) AS n"""
ADD_EMBEDDINGS = """
INSERT INTO page_embeddings (id, created_at, r2_key)
SELECT id, created_at, r2_key FROM page_images WHERE id NOT IN (SELECT id FROM page_embeddings)"""
SCROLL = """() => new Promise((done) => {
  const tasks = [];
  new PerformanceObserver((list) => tasks.push(...list.getEntries().map((entry) => entry.duration)))
    .observe({ type: "longtask" });
  let nodes = 0;
  const step = () => {
    nodes = Math.max(nodes, document.getElementsByTagName("*").length);
    const end = document.querySelector("#end-of-list");
    if (end.classList.contains("is-end") && end.getBoundingClientRect().top < innerHeight) done({ nodes, tasks });
    else {
      scrollBy(0, 3 * innerHeight);
      requestAnimationFrame(step);
    }
  };
  step();
})"""
FIRST_ROW = """() => {
  const tile = [...document.querySelectorAll(".tile")].find((each) => each.getBoundingClientRect().top >= 64);
  return tile && [tile.dataset.id, Math.round(tile.getBoundingClientRect().top)];
}"""


def make_photos(folder: Path, count: int, sources: Path) -> None:
    """Write different crops of the sample photos, which are enlarged where they are smaller."""
    rng = random.Random(1)
    samples = [Image.open(path).convert("RGB") for path in sample_photos(sources)]
    folder.mkdir()
    for number in range(count):
        sample, (width, height) = samples[number % len(samples)], rng.choice(SIZES)
        scale = min(sample.width / width, sample.height / height) * rng.uniform(0.6, 1)
        left, top = rng.uniform(0, sample.width - width * scale), rng.uniform(0, sample.height - height * scale)
        box = (left, top, left + width * scale, top + height * scale)
        crop = sample.resize((width, height), Image.Resampling.LANCZOS, box=box)
        crop.save(folder / f"{number:05}.jpg", quality=82)


def lighthouse(url: str, chromium: str, report: Path) -> dict[str, float]:
    """Return scores of 100, times in ms and layout shifts of a page on Lighthouse's phone."""
    command = ["npx", "--yes", "lighthouse@12", url, "--quiet", "--output=json", f"--output-path={report}"]
    flags = "--chrome-flags=--headless=new --no-sandbox --disable-gpu"
    subprocess.run([*command, flags], env=os.environ | {"CHROME_PATH": chromium}, check=True)
    result = json.loads(report.read_text())
    scores = {name: 100 * category["score"] for name, category in result["categories"].items()}
    return scores | {name: result["audits"][name]["numericValue"] for name in AUDITS}


def add_rows(database_url: str, rows: int, photos: int) -> None:
    """Multiply the rows of the collection."""
    with psycopg.connect(database_url) as conn:
        conn.execute(ADD_IMAGES, [rows // photos - 1])
        conn.execute(ADD_EMBEDDINGS)


def heap(session: CDPSession) -> float:
    """Return the MB that the page's scripts use after a garbage collection."""
    session.send("HeapProfiler.collectGarbage")
    metrics: list[dict[str, Any]] = session.send("Performance.getMetrics")["metrics"]
    return next(float(metric["value"]) for metric in metrics if metric["name"] == "JSHeapUsedSize") / 1e6


def scroll(page: Page, url: str) -> dict[str, float]:
    """Scroll a list to its end, and return the most elements, the growth of the heap in MB, and long tasks in ms."""
    page.goto(url)
    page.locator("main.is-ready .tile").first.wait_for()
    session = page.context.new_cdp_session(page)
    session.send("Performance.enable")
    before = heap(session)
    result = page.evaluate(SCROLL)
    tasks = result["tasks"] or [0]
    return {
        "most elements": result["nodes"],
        "heap before, MB": before,
        "heap growth, MB": heap(session) - before,
        "tasks over 100 ms": sum(task > 100 for task in tasks),
        "longest task, ms": max(tasks),
    }


def check_reload(page: Page) -> None:
    """Reload at 71 % of the list, and fail unless the page returns to the same row."""
    page.evaluate("() => scrollTo(0, 0.71 * document.documentElement.scrollHeight)")
    page.wait_for_function(f"() => ({FIRST_ROW})()")
    page.wait_for_timeout(1000)  # the position is saved when scrolling stops
    before = page.evaluate(FIRST_ROW)
    page.reload()
    page.wait_for_function(f"(before) => String(({FIRST_ROW})()) === String(before)", arg=before)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--photos", type=int, default=1000)
    parser.add_argument("--rows", type=int, default=100_000, help="of the long list; 0 leaves it out")
    parser.add_argument("--runs", type=int, default=5, help="of Lighthouse; 0 leaves it out")
    arguments = parser.parse_args()
    chromium = shutil.which("chromium") or shutil.which("google-chrome")
    if not chromium:
        raise SystemExit("no Chromium on the PATH (Debian: apt-get install chromium)")
    with tempfile.TemporaryDirectory(prefix="image-browser-bench-", ignore_cleanup_errors=True) as folder:
        measure(Path(folder), chromium, arguments)


def measure(scratch: Path, chromium: str, arguments: argparse.Namespace) -> None:
    make_photos(scratch / "photos", arguments.photos, scratch / "samples")
    postgres = asyncio.run(embedded.start(scratch / "postgres"))
    try:
        environment = make_environment(scratch, postgres.url)
        assert Syncer(environment)("upload", scratch / "photos", "--bucket", BUCKET, timeout=3600).status == 0
        with serving(environment, scratch / "server.log") as server:
            url = f"{server.url}/?bucket={BUCKET}"
            runs = [lighthouse(url, chromium, scratch / "report.json") for _ in range(arguments.runs)]
            for name in runs[0] if runs else ():
                print(
                    f"{name:<26}{statistics.median(run[name] for run in runs):9.2f}", [round(r[name], 2) for r in runs]
                )
            if arguments.rows:
                add_rows(postgres.url, arguments.rows, arguments.photos)
                with sync_playwright() as playwright:
                    browser = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
                    page = browser.new_page(viewport={"width": 1280, "height": 800})
                    page.set_default_timeout(0)
                    for name, value in scroll(page, url).items():
                        print(f"{name:<26}{value:9.1f}")
                    check_reload(page)
                    browser.close()
    finally:
        asyncio.run(postgres.release())


if __name__ == "__main__":
    main()
