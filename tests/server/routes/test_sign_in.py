"""Signing in from a browser, over real HTTP."""

from collections.abc import Iterator

import httpx2
import pytest

from tests.helpers.processes import Server
from tests.server.conftest import API_TOKEN, READ_TOKEN, TOKEN_OF_MINE, TwoCollections

pytestmark = pytest.mark.xdist_group("access")


class Browser(httpx2.Client):
    """A client that keeps cookies and sends the sign-in form."""

    def sign_in(self, token: str, target: str = "/", **headers: str) -> httpx2.Response:
        return self.post("/sign-in", data={"token": token, "next": target}, headers=headers)


@pytest.fixture
def browser(guarded_server: Server) -> Iterator[Browser]:
    with Browser(base_url=guarded_server.url, timeout=30) as opened:
        yield opened


def test_a_browser_signs_in_sees_its_images_and_signs_out(browser: Browser, guarded_server: Server) -> None:
    redirect = browser.get("/?bucket=mine&q=a+b")
    form = browser.get(redirect.headers["location"])
    assert form.status_code == 200
    assert '<form class="sign-in-form" action="/sign-in" method="post">' in form.text
    assert 'name="next" value="/?bucket=mine&amp;q=a+b"' in form.text
    assert "<script" not in form.text

    signed_in = browser.sign_in(TOKEN_OF_MINE, "/?bucket=mine&q=a+b")
    assert (signed_in.status_code, signed_in.headers["location"]) == (303, "/?bucket=mine&q=a+b")
    cookie = signed_in.headers["set-cookie"]
    assert {"HttpOnly", "SameSite=lax", "Path=/"} <= set(cookie.split("; "))
    assert "Secure" not in cookie
    assert TOKEN_OF_MINE not in cookie

    assert browser.get("/?bucket=mine").status_code == 200
    headers = {"Authorization": f"Bearer {READ_TOKEN}"}
    for bucket, status in (("mine", 200), ("yours", 404)):
        found = guarded_server.http.get("/api/images", params={"bucket": bucket}, headers=headers).json()["images"]
        assert browser.get(found[0]["thumbnail_url"]).status_code == status
    assert browser.post("/sign-out").headers["location"] == "/sign-in"
    assert browser.get("/api/images").status_code == 401


def test_signing_out_ends_the_session_on_all_servers(browser: Browser, two_collections: TwoCollections) -> None:
    browser.sign_in(READ_TOKEN)
    stolen = {"Cookie": f"image_browser={browser.cookies['image_browser']}"}
    with two_collections.serving("copy", READ_TOKEN=READ_TOKEN) as copy:
        assert copy.http.get("/api/images", headers=stolen).status_code == 200
        browser.post("/sign-out")
        assert copy.http.get("/api/images", headers=stolen).status_code == 401
    browser.cookies.clear()
    assert browser.get("/api/images", headers=stolen).status_code == 401
    assert browser.post("/sign-out").status_code == 303


def test_the_cookie_is_secure_behind_a_proxy_with_https(browser: Browser) -> None:
    assert "Secure" in browser.sign_in(READ_TOKEN, **{"X-Forwarded-Proto": "https"}).headers["set-cookie"]


def test_a_wrong_token_is_reported_and_sets_no_cookie(browser: Browser) -> None:
    for token in ("wrong", "", " ", "ü" * 40):
        answer = browser.sign_in(token)
        assert answer.status_code == 401
        assert "Wrong token" in answer.text
        assert "set-cookie" not in answer.headers
    assert browser.post("/sign-in", content=b"token=" + b"x" * 10_000).status_code == 413


@pytest.mark.parametrize(
    "target",
    [
        "https://evil.example/",
        "//evil.example",
        "/\\evil.example",
        "/\t/evil.example",
        "javascript:alert(1)",
        "\\\\e",
        "",
    ],
)
def test_signing_in_redirects_to_no_other_site(browser: Browser, target: str) -> None:
    assert browser.sign_in(READ_TOKEN, target).headers["location"] == "/"


@pytest.mark.parametrize(
    "headers",
    [
        {"Sec-Fetch-Site": "cross-site"},
        {"Sec-Fetch-Site": "same-site"},
        {"Origin": "https://e.example"},
        {"Origin": "null"},
        {"Origin": "http://["},
    ],
)
def test_a_page_of_another_site_can_neither_sign_in_nor_out(browser: Browser, headers: dict[str, str]) -> None:
    assert browser.sign_in(READ_TOKEN, **headers).status_code == 403
    assert browser.post("/sign-out", headers=headers).status_code == 403
    assert browser.sign_in(READ_TOKEN, Origin=str(browser.base_url)).status_code == 303


def test_a_forged_cookie_opens_nothing(browser: Browser) -> None:
    browser.sign_in(READ_TOKEN)
    good = browser.cookies["image_browser"]
    for forged in (good[:-2], good.replace(".", "", 1), "x", "", READ_TOKEN):
        browser.cookies.clear()
        assert browser.get("/api/images", headers={"Cookie": f"image_browser={forged}"}).status_code == 401
    assert browser.get("/api/images", headers={"Cookie": f"image_browser={good}"}).status_code == 200


def test_a_cookie_works_on_other_servers_until_its_token_changes(
    two_collections: TwoCollections, browser: Browser
) -> None:
    browser.sign_in(READ_TOKEN)
    cookie = {"Cookie": f"image_browser={browser.cookies['image_browser']}"}
    for token, status in ((READ_TOKEN, 200), (f"{READ_TOKEN}-new", 401)):
        with two_collections.serving("other", READ_TOKEN=token) as other:
            assert other.http.get("/api/images", headers=cookie).status_code == status


def test_a_browser_signed_in_with_a_token_that_writes_can_write_from_our_pages_only(browser: Browser) -> None:
    path = "/api/images/999999"
    assert browser.sign_in(API_TOKEN).status_code == 303
    assert browser.delete(path).status_code == 401
    for headers, status in (
        ({"Sec-Fetch-Site": "same-origin"}, 404),
        ({"Origin": str(browser.base_url).rstrip("/")}, 404),
        ({"Sec-Fetch-Site": "none"}, 401),
        ({"Sec-Fetch-Site": "same-site"}, 403),
        ({"Sec-Fetch-Site": "cross-site"}, 403),
        ({"Origin": "https://e.example"}, 403),
        ({"Origin": "null"}, 403),
        ({"Origin": str(browser.base_url).rstrip("/"), "X-Forwarded-Proto": "https"}, 403),
    ):
        assert browser.delete(path, headers=headers).status_code == status, headers
    browser.sign_in(READ_TOKEN)
    assert browser.delete(path, headers={"Sec-Fetch-Site": "same-origin"}).status_code == 401
