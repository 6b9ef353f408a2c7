"""Signing in and out in Chromium."""

from pathlib import Path

import pytest
from playwright.sync_api import expect

from tests.browser.conftest import OpenTab, Site, ready
from tests.helpers.processes import serving

pytestmark = [pytest.mark.browser, pytest.mark.xdist_group("browser")]

TOKEN = "a-token-that-opens-everything"


def test_signing_in_leads_to_the_requested_page_and_signing_out_ends_it(
    open_tab: OpenTab, site: Site, tmp_path: Path
) -> None:
    tab = open_tab("/healthz", allow_errors=True)
    with serving({**site.environment, "READ_TOKEN": TOKEN}, tmp_path / "server.log") as server:
        page = tab.page
        page.goto(f"{server.url}/?bucket=photos&q=a+cat")
        page.get_by_label("Token").fill("a guess")
        page.get_by_role("button", name="Sign in").click()
        expect(page.get_by_role("alert")).to_contain_text("Wrong token")
        page.get_by_label("Token").fill(TOKEN)
        page.get_by_role("button", name="Sign in").click()
        ready(page)
        expect(page.locator("#title")).to_have_text("Results for a cat")
        assert page.evaluate("window.violations") == []

        # After signing out in another window, this one asks to sign in and returns to the same page.
        page.context.clear_cookies()
        page.locator(".tile-link").nth(1).focus()
        page.keyboard.press("s")
        expect(page.get_by_role("alert")).to_contain_text("You are signed out")
        page.get_by_role("link", name="Sign in").click()
        page.get_by_label("Token").fill(TOKEN)
        page.get_by_role("button", name="Sign in").click()
        expect(page.locator(".detail-image")).to_be_visible()
        page.get_by_role("button", name="Sign out").click()
        expect(page.get_by_label("Token")).to_be_visible()
