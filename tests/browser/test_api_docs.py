"""The API page in Chromium."""

import pytest
from playwright.sync_api import expect

from tests.browser.conftest import OpenTab

pytestmark = [pytest.mark.browser, pytest.mark.xdist_group("browser")]


def test_the_api_page_sends_requests(open_tab: OpenTab) -> None:
    page = open_tab("/docs#search", width=390).page
    operation = page.locator("#search")
    operation.locator("[name=q]").fill("it's a boat")
    expect(operation.locator(".curl")).to_contain_text("/api/search?q=it%27s+a+boat")
    operation.get_by_role("button", name="Try").click()
    expect(operation.locator(".response-status")).to_contain_text("200")
    expect(operation.locator(".response-body")).to_contain_text('"next_cursor"')
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
