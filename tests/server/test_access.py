"""Who may read, over real HTTP: tokens, the sign-in page, and buckets that are not there for others."""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote

import httpx2
import pytest
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from server.app import create_app
from server.login_throttle import MAX_WRONG_TOKENS, WINDOW, LoginThrottle
from server.schemas.errors import Problem
from server.settings import ServerSettings
from shared import settings
from shared.errors import SettingsError
from tests.helpers.pictures import make_pictures
from tests.helpers.processes import Server, Syncer, make_environment, make_home, new_database, serving

pytestmark = pytest.mark.xdist_group("access")  # one worker makes the collections for all

READ, MINE, YOURS, WRITE = "read-token-of-all", "read-token-of-mine", "read-token-of-yours", "api-token-of-tests"
TOKENS = {"READ_TOKEN": READ, "READ_TOKENS": f"mine={MINE}, yours={YOURS}", "API_TOKEN": WRITE}
# What answers everybody. A route that is not named here must be closed.
OPEN = {"/healthz", "/readyz", "/sign-in", "/sign-out", "/static/{version}/{path:path}"}
PAGES = {"/", "/docs"}
REQUEST_ID = r"[0-9a-f]{16}"


@dataclass
class Collections:
    """The environment of two collections, ``mine`` and ``yours``, of three embedded pictures each."""

    environment: dict[str, str]
    folder: Path

    def serving(self, name: str, **environment: str) -> Any:
        return serving(self.environment | environment, self.folder / f"{name}.log")


@pytest.fixture(scope="module")
def collections(
    postgres: str, template: str, shared_folder: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Collections]:
    folder = tmp_path_factory.mktemp("access")
    with new_database(postgres, template) as database_url:
        environment = make_environment(make_home(folder / "home", shared_folder), database_url)
        for first, bucket in ((0, "mine"), (3, "yours")):
            make_pictures(folder / bucket, 3, first=first)
            assert Syncer(environment)("sync", folder / bucket, "--bucket", bucket).status == 0
        yield Collections(environment, folder)


@pytest.fixture(scope="module")
def guarded(collections: Collections) -> Iterator[Server]:
    """A server that wants tokens."""
    with collections.serving("guarded", **TOKENS, BUCKET="yours") as running:
        yield running


def bearer(token: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {token}"}


def an_image(server: Server, bucket: str, token: str = READ) -> dict[str, Any]:
    answer = server.http.get("/api/images", params={"bucket": bucket, "limit": 1}, headers=bearer(token))
    found: dict[str, Any] = answer.json()["images"][0]
    return found


def every_route() -> Iterator[tuple[str, str]]:
    for route in create_app(ServerSettings()).routes:
        assert isinstance(route, Route), f"{route} is no plain route: teach this test how to try it"
        for method in sorted(route.methods or ()):
            yield method, route.path


def test_without_a_token_every_route_but_those_of_health_and_sign_in_is_closed(guarded: Server) -> None:
    for method, path in every_route():
        address = re.sub(r"\{\w+(:\w+)?\}", "1", path)
        answer = guarded.http.request(method, address, params={"bucket": "mine"})
        if path in OPEN:
            assert answer.status_code not in {403, 500}, path
        elif path in PAGES:
            target = quote(f"{address}?bucket=mine", safe="")
            assert (answer.status_code, answer.headers["location"]) == (303, f"/sign-in?next={target}")
        else:
            assert answer.status_code == 401, f"{method} {path}"
            assert answer.headers["www-authenticate"].startswith("Bearer")
            assert answer.headers["content-type"] == "application/problem+json"
        assert "unsafe-inline" not in answer.headers["content-security-policy"]
        assert answer.headers["x-content-type-options"] == "nosniff"


@pytest.mark.parametrize("header", ["", "Bearer", "Bearer wrong", f"Basic {READ}", f"Bearer {READ}x", "Bearer é"])
def test_what_is_no_token_opens_nothing_and_unknown_addresses_are_not_told_apart(guarded: Server, header: str) -> None:
    for path in (
        "/api/images?bucket=mine",
        "/api/images?bucket=nothing",
        "/nowhere",
        "/files/mine/x",
        "/healthz/",
    ):
        answer = guarded.http.get(path, headers=[(b"Authorization", header.encode())])
        assert answer.status_code == 401, path


def test_no_other_part_of_a_request_passes_for_its_path(guarded: Server) -> None:
    for host in ("x/healthz?", "x/static/", "healthz", "x/sign-in#"):
        assert guarded.http.get("/api/images", headers={"Host": host}).status_code in {400, 401}, host
    for path in ("/static/../api/images", "/static/1/../../api/images", "/healthz;/../api/images", "/api/images/"):
        answer = guarded.http.request("GET", httpx2.URL(guarded.url, raw_path=path.encode()))
        assert answer.status_code in {401, 404}, path


@pytest.mark.parametrize("token", [READ, WRITE])
def test_the_tokens_for_all_open_every_collection(guarded: Server, token: str) -> None:
    found = guarded.http.get("/api/collections", headers=bearer(token)).json()["collections"]
    assert [each["bucket"] for each in found] == ["mine", "yours"]
    assert guarded.http.get("/?bucket=mine", headers=bearer(token)).status_code == 200
    assert guarded.http.head("/api/images", headers=bearer(token)).status_code == 200


def test_for_a_token_of_one_bucket_the_others_do_not_exist(guarded: Server) -> None:
    theirs, mine = an_image(guarded, "yours"), an_image(guarded, "mine")
    of_mine = bearer(MINE)
    cursor = guarded.http.get("/api/images?bucket=yours&limit=1", headers=bearer(READ)).json()["next_cursor"]
    for address in (
        "/api/images?bucket={}",
        "/api/images?bucket={}&cursor=" + cursor,
        "/api/images?bucket={}&ids=" + str(theirs["id"]),
        f"/api/images/{theirs['id']}?bucket={{}}",
        f"/api/images/{theirs['id']}/similar?bucket={{}}",
        "/api/search?bucket={}&q=x",
        "/api/stats?bucket={}",
        "/api/stats/stream?bucket={}",
        "/api/facets?bucket={}",
        theirs["url"].replace("/files/yours/", "/files/{}/"),
        theirs["thumbnail_url"].replace("/files/yours/", "/files/{}/"),
        "/?bucket={}",
        f"/?bucket={{}}&similar={theirs['id']}",
    ):
        hidden = guarded.http.get(address.format("yours"), headers=of_mine)
        unknown = guarded.http.get(address.format("never"), headers=of_mine)
        assert hidden.status_code == unknown.status_code == 404, address
        assert re.sub(REQUEST_ID, "", hidden.text.replace("yours", "never")) == re.sub(REQUEST_ID, "", unknown.text)
        with guarded.http.stream("GET", address.format("yours"), headers=bearer(YOURS)) as answer:
            assert answer.status_code == 200, address
    asked = {"bucket": "yours", "terms": [{"image_id": theirs["id"]}]}
    assert guarded.http.post("/api/search", json=asked, headers=of_mine).status_code == 404
    assert guarded.http.post("/api/search", json=asked, headers=bearer(YOURS)).status_code == 200
    assert guarded.http.post("/api/query-images?bucket=yours", content=b"x", headers=of_mine).status_code == 404
    found = guarded.http.get("/api/collections", headers=of_mine).json()["collections"]
    assert [each["bucket"] for each in found] == ["mine"]
    # BUCKET names the default, which is not there either for this one.
    assert {each["bucket"] for each in guarded.http.get("/api/images", headers=of_mine).json()["images"]} == {"mine"}
    assert guarded.http.get(mine["url"], headers=of_mine).status_code == 200
    assert "yours" not in guarded.http.get("/", headers=of_mine).text
    assert guarded.http.get("/api/images", headers=bearer(YOURS)).json()["images"][0]["bucket"] == "yours"


def test_a_cursor_of_another_bucket_means_nothing(guarded: Server) -> None:
    cursor = guarded.http.get("/api/images?bucket=yours&limit=1", headers=bearer(READ)).json()["next_cursor"]
    answer = guarded.http.get("/api/images", params={"bucket": "mine", "cursor": cursor}, headers=bearer(MINE))
    assert answer.status_code == 400


def test_what_counts_all_buckets_needs_a_token_for_all(guarded: Server) -> None:
    assert guarded.http.get("/metrics", headers=bearer(MINE)).status_code == 403
    assert guarded.http.get("/metrics", headers=bearer(READ)).status_code != 403


def test_no_cache_on_the_way_keeps_what_a_token_opened(guarded: Server) -> None:
    image = an_image(guarded, "mine")
    for address in ("/api/images", "/", image["url"], image["thumbnail_url"], "/api/images/999999"):
        kept = guarded.http.get(address, headers=bearer(MINE)).headers["cache-control"]
        assert "private" in kept, address
        assert "public" not in kept, address
    assert "immutable" in guarded.http.get(image["url"], headers=bearer(MINE)).headers["cache-control"]
    assert guarded.http.get("/api/images").headers["cache-control"] == "no-store"


class Browser(httpx2.Client):
    """Keeps cookies and sends forms."""

    def sign_in(self, token: str, target: str = "/", **headers: str) -> httpx2.Response:
        return self.post("/sign-in", data={"token": token, "next": target}, headers=headers)


@pytest.fixture
def browser(guarded: Server) -> Iterator[Browser]:
    with Browser(base_url=guarded.url, timeout=30) as opened:
        yield opened


def test_a_browser_signs_in_sees_its_images_and_signs_out(browser: Browser, guarded: Server) -> None:
    sent_on = browser.get("/?bucket=mine&q=a+b")
    form = browser.get(sent_on.headers["location"])
    assert form.status_code == 200
    assert '<form class="sign-in-form" action="/sign-in" method="post">' in form.text
    assert 'name="next" value="/?bucket=mine&amp;q=a+b"' in form.text
    assert "<script" not in form.text

    signed_in = browser.sign_in(MINE, "/?bucket=mine&q=a+b")
    assert (signed_in.status_code, signed_in.headers["location"]) == (303, "/?bucket=mine&q=a+b")
    cookie = signed_in.headers["set-cookie"]
    assert {"HttpOnly", "SameSite=lax", "Path=/"} <= set(cookie.split("; "))
    assert "Secure" not in cookie
    assert MINE not in cookie

    assert browser.get("/?bucket=mine").status_code == 200
    assert browser.get(an_image(guarded, "mine")["thumbnail_url"]).status_code == 200
    assert browser.get(an_image(guarded, "yours")["thumbnail_url"]).status_code == 404
    assert browser.post("/sign-out").headers["location"] == "/sign-in"
    assert browser.get("/api/images").status_code == 401


def test_behind_a_proxy_that_encrypts_the_cookie_is_for_encrypted_connections_only(browser: Browser) -> None:
    assert "Secure" in browser.sign_in(READ, **{"X-Forwarded-Proto": "https"}).headers["set-cookie"]


def test_a_wrong_token_is_told_so_and_sets_no_cookie(browser: Browser) -> None:
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
def test_signing_in_leads_nowhere_else(browser: Browser, target: str) -> None:
    assert browser.sign_in(READ, target).headers["location"] == "/"


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
def test_a_page_of_another_site_signs_nobody_in_or_out(browser: Browser, headers: dict[str, str]) -> None:
    assert browser.sign_in(READ, **headers).status_code == 403
    assert browser.post("/sign-out", headers=headers).status_code == 403
    assert browser.sign_in(READ, Origin=str(browser.base_url)).status_code == 303


def test_a_forged_cookie_opens_nothing(browser: Browser) -> None:
    browser.sign_in(READ)
    good = browser.cookies["image_browser"]
    for forged in (good[:-2], good.replace(".", "", 1), "x", "é"[:0], READ):
        browser.cookies.clear()
        assert browser.get("/api/images", headers={"Cookie": f"image_browser={forged}"}).status_code == 401
    assert browser.get("/api/images", headers={"Cookie": f"image_browser={good}"}).status_code == 200


def test_another_token_ends_the_cookies_of_the_old_one_and_guessing_has_an_end(
    collections: Collections, browser: Browser
) -> None:
    browser.sign_in(READ)
    cookie = {"Cookie": f"image_browser={browser.cookies['image_browser']}"}
    with collections.serving("same", READ_TOKEN=READ) as same:
        assert same.http.get("/api/images", headers=cookie).status_code == 200
    with collections.serving("changed", READ_TOKEN=READ + "-new") as changed:
        assert changed.http.get("/api/images", headers=cookie).status_code == 401
        for _ in range(2 * MAX_WRONG_TOKENS):  # an old token is no guess, however often it comes
            assert changed.http.get("/api/images", headers=bearer(READ)).status_code == 401
        for number in range(1, MAX_WRONG_TOKENS):
            assert changed.http.get("/api/images", headers=bearer(f"guess-{number}")).status_code == 401
        for answer in (
            changed.http.get("/api/images", headers=bearer(READ + "-new")),
            changed.http.post("/sign-in", data={"token": READ + "-new"}),
        ):
            assert answer.status_code == 429
            assert int(answer.headers["retry-after"]) > 0
        assert changed.http.get("/sign-in").status_code == 200


async def fail(_request: Request) -> Response:
    raise RuntimeError("unforeseen")


async def test_also_the_answer_to_what_went_wrong_has_the_security_headers() -> None:
    app = create_app(ServerSettings())
    app.router.routes.append(Route("/api/wrong", fail))
    async with httpx2.AsyncClient(transport=httpx2.ASGITransport(app)) as http:
        answer = await http.get("http://here/api/wrong")
    assert answer.status_code == 500
    assert "default-src 'self'" in answer.headers["content-security-policy"]


def test_a_client_may_guess_again_after_a_while_and_others_at_any_time() -> None:
    now = 1000.0
    guesses = LoginThrottle(lambda: now)
    for number in range(MAX_WRONG_TOKENS):
        guesses.check("a")
        guesses.record("a", b"%d" % number)
    with pytest.raises(Problem, match="try again in"):
        guesses.check("a")
    guesses.check("b")
    now += WINDOW
    guesses.check("a")


def test_buckets_hides_every_other_collection_completely(collections: Collections) -> None:
    with collections.serving("one bucket", BUCKETS="mine", BUCKET="yours") as server:
        assert [c["bucket"] for c in server.get("/api/collections")["collections"]] == ["mine"]
        for address in (
            "/api/images?bucket=yours",
            "/api/images/1?bucket=yours",
            "/api/images/1/similar?bucket=yours",
            "/api/search?bucket=yours&q=x",
            "/api/stats?bucket=yours",
            "/api/stats/stream?bucket=yours",
            "/api/facets?bucket=yours",
            "/files/yours/set%203/picture-0003.jpg",
            "/?bucket=yours",
        ):
            assert server.http.get(address).status_code == 404, address
        assert "yours" not in server.http.get("/metrics").text
        assert server.http.get("/sign-in").headers["location"] == "/"


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"api_token": "short"}, "API_TOKEN has 5 characters"),
        ({"read_token": "with a space in it"}, "READ_TOKEN has 18 characters"),
        ({"read_tokens": "b=short"}, "READ_TOKENS \\(b\\) has 5 characters"),
        ({"read_tokens": "b"}, "bucket=token"),
        ({"read_tokens": f"=,{READ}"}, "bucket=token"),
        ({"read_token": READ, "api_token": READ}, "READ_TOKEN is the same"),
        ({"read_tokens": f"b={READ}", "api_token": READ}, "API_TOKEN is the same"),
    ],
)
def test_tokens_that_protect_nothing_are_refused_at_the_start_without_being_shown(
    given: dict[str, str], said: str
) -> None:
    with pytest.raises(SettingsError, match=said) as refused:
        settings.load(ServerSettings, **given)
    assert not any(value in str(refused.value) for value in given.values() if len(value) > 5)
