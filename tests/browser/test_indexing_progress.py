"""The indexing progress in the top bar."""

import json

import pytest
from playwright.sync_api import Page, expect

from tests.browser.conftest import OpenTab

pytestmark = [pytest.mark.browser, pytest.mark.xdist_group("browser")]

RUNNING = {"embedded": 500, "failed": 2, "rate_per_minute": 60.0, "active": True, "reasons": {"corrupt": 2}}


def show(page: Page, *events: dict[str, object]) -> None:
    """Reload the page, whose stream then has these statistics."""
    common = RUNNING | {"bucket": "photos", "model": "m", "eta_seconds": None, "cost_so_far": 0, "cost_to_go": 0}
    body = "".join(f"event: stats\ndata: {json.dumps(common | event)}\n\n" for event in events)
    page.route("**/api/stats/stream*", lambda route: route.fulfill(content_type="text/event-stream", body=body))
    page.reload()


def test_the_ring_never_runs_backwards_and_leaves_failures_out(open_gallery: OpenTab) -> None:
    page = open_gallery("/?bucket=photos").page
    show(page, {"pending": 500, "total": 1002}, {"pending": 9500, "total": 10002})
    expect(page.locator('[data-stat="pending"]')).to_have_text("9,500")
    expect(page.locator(".progress-percent")).to_have_text("50%")
    page.locator("#progress summary").click()
    expect(page.locator(".progress-title")).to_have_text("Indexing images")
    expect(page.locator(".failures li")).to_have_text("Damaged file2")


def test_indexing_without_a_syncer_is_paused(open_gallery: OpenTab) -> None:
    page = open_gallery("/?bucket=photos").page
    show(page, {"pending": 500, "total": 1002, "active": False, "rate_per_minute": 0.0})
    page.locator("#progress summary").click()
    expect(page.locator(".progress-title")).to_have_text("Paused: no syncer is running")


def test_the_page_of_an_idle_collection_says_that_indexing_is_paused(open_tab: OpenTab) -> None:
    page = open_tab("/?bucket=many", java_script_enabled=False).page
    page.locator("#progress summary").click()
    expect(page.locator(".progress-title")).to_have_text("Paused: no syncer is running")
