"""Access over real HTTP: tokens, and buckets that are hidden from others."""

import re
from collections.abc import Iterator
from typing import Any
from urllib.parse import quote

import httpx2
import pytest
from starlette.routing import Route

from server.access import MAX_WRONG_TOKENS
from server.app import create_app
from server.settings import ServerSettings
from tests.helpers.processes import Server
from tests.server.conftest import API_TOKEN, READ_TOKEN, TOKEN_OF_MINE, TOKEN_OF_YOURS, TwoCollections

pytestmark = pytest.mark.xdist_group("access")

# Every route that is not listed here must be closed.
OPEN_ROUTES = {"/healthz", "/readyz", "/sign-in", "/sign-out", "/static/{version}/{path:path}"}
PAGES = {"/", "/collections", "/failures", "/docs"}
REQUEST_ID = r"[0-9a-f]{16}"
COLLECTION_URLS = (
    "/?bucket={}",
    "/api/images?bucket={}",
    "/api/search?bucket={}&q=x",
    "/api/stats?bucket={}",
    "/api/stats/stream?bucket={}",
    "/api/facets?bucket={}",
)


def bearer(token: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {token}"}


def first_image(server: Server, bucket: str) -> dict[str, Any]:
    answer = server.http.get("/api/images", params={"bucket": bucket, "limit": 1}, headers=bearer(READ_TOKEN))
    image: dict[str, Any] = answer.json()["images"][0]
    return image


def all_routes() -> Iterator[tuple[str, str]]:
    for route in create_app(ServerSettings()).routes:
        assert isinstance(route, Route), f"{route} is no plain route: teach this test how to request it"
        for method in sorted(route.methods or ()):
            yield method, route.path


def test_every_route_except_health_and_sign_in_needs_a_token(guarded_server: Server) -> None:
    for method, path in all_routes():
        url = re.sub(r"\{\w+(:\w+)?\}", "1", path)
        answer = guarded_server.http.request(method, url, params={"bucket": "mine"})
        if path in OPEN_ROUTES:
            assert answer.status_code not in {403, 500}, path
        elif path in PAGES:
            target = quote(f"{url}?bucket=mine", safe="")
            assert (answer.status_code, answer.headers["location"]) == (303, f"/sign-in?next={target}")
        else:
            assert answer.status_code == 401, f"{method} {path}"
            assert answer.headers["www-authenticate"].startswith("Bearer")
            assert answer.headers["content-type"] == "application/problem+json"
        assert "unsafe-inline" not in answer.headers["content-security-policy"]
        assert answer.headers["x-content-type-options"] == "nosniff"


@pytest.mark.parametrize(
    "header", ["", "Bearer", "Bearer wrong", f"Basic {READ_TOKEN}", f"Bearer {READ_TOKEN}x", "Bearer é"]
)
def test_an_invalid_token_opens_nothing_and_does_not_reveal_which_paths_exist(
    guarded_server: Server, header: str
) -> None:
    for path in ("/api/images?bucket=mine", "/api/images?bucket=nothing", "/nowhere", "/files/mine/x", "/healthz/"):
        answer = guarded_server.http.get(path, headers=[(b"Authorization", header.encode())])
        assert answer.status_code == 401, path


def test_neither_the_host_header_nor_dots_in_the_path_open_a_closed_path(guarded_server: Server) -> None:
    for host in ("x/healthz?", "x/static/", "healthz", "x/sign-in#"):
        assert guarded_server.http.get("/api/images", headers={"Host": host}).status_code in {400, 401}, host
    for path in ("/static/../api/images", "/static/1/../../api/images", "/healthz;/../api/images", "/api/images/"):
        answer = guarded_server.http.request("GET", httpx2.URL(guarded_server.url, raw_path=path.encode()))
        assert answer.status_code in {401, 404}, path


@pytest.mark.parametrize("token", [READ_TOKEN, API_TOKEN])
def test_a_token_for_all_buckets_opens_every_collection(guarded_server: Server, token: str) -> None:
    found = guarded_server.http.get("/api/collections", headers=bearer(token)).json()["collections"]
    assert [each["bucket"] for each in found] == ["mine", "yours"]
    assert guarded_server.http.get("/?bucket=mine", headers=bearer(token)).status_code == 200
    assert guarded_server.http.head("/api/images", headers=bearer(token)).status_code == 200


def test_a_token_for_one_bucket_cannot_tell_that_others_exist(guarded_server: Server) -> None:
    http, mine = guarded_server.http, bearer(TOKEN_OF_MINE)
    theirs = first_image(guarded_server, "yours")
    cursor = http.get("/api/images?bucket=yours&limit=1", headers=bearer(READ_TOKEN)).json()["next_cursor"]
    for url in (
        *COLLECTION_URLS,
        "/api/images?bucket={}&cursor=" + cursor,
        "/api/images?bucket={}&ids=" + str(theirs["id"]),
        f"/api/images/{theirs['id']}?bucket={{}}",
        f"/api/images/{theirs['id']}/similar?bucket={{}}",
        theirs["url"].replace("/files/yours/", "/files/{}/"),
        theirs["thumbnail_url"].replace("/files/yours/", "/files/{}/"),
        f"/?bucket={{}}&similar={theirs['id']}",
    ):
        hidden = http.get(url.format("yours"), headers=mine)
        missing = http.get(url.format("never"), headers=mine)
        assert hidden.status_code == missing.status_code == 404, url
        assert re.sub(REQUEST_ID, "", hidden.text.replace("yours", "never")) == re.sub(REQUEST_ID, "", missing.text)
        with http.stream("GET", url.format("yours"), headers=bearer(TOKEN_OF_YOURS)) as answer:
            assert answer.status_code == 200, url
    body = {"bucket": "yours", "terms": [{"image_id": theirs["id"]}]}
    assert http.post("/api/search", json=body, headers=mine).status_code == 404
    assert http.post("/api/search", json=body, headers=bearer(TOKEN_OF_YOURS)).status_code == 200
    assert http.post("/api/query-images?bucket=yours", content=b"x", headers=mine).status_code == 404
    assert "yours" not in http.get("/", headers=mine).text


def test_the_default_bucket_of_a_token_for_one_bucket_is_its_own(guarded_server: Server) -> None:
    http = guarded_server.http
    found = http.get("/api/collections", headers=bearer(TOKEN_OF_MINE)).json()["collections"]
    assert [each["bucket"] for each in found] == ["mine"]
    # BUCKET=yours is the default of this server, but hidden from this token.
    for token, bucket in ((TOKEN_OF_MINE, "mine"), (TOKEN_OF_YOURS, "yours")):
        images = http.get("/api/images", headers=bearer(token)).json()["images"]
        assert {image["bucket"] for image in images} == {bucket}
        assert http.get(images[0]["url"], headers=bearer(token)).status_code == 200


def test_a_cursor_of_another_bucket_is_refused(guarded_server: Server) -> None:
    cursor = guarded_server.http.get("/api/images?bucket=yours&limit=1", headers=bearer(READ_TOKEN)).json()
    parameters = {"bucket": "mine", "cursor": cursor["next_cursor"]}
    answer = guarded_server.http.get("/api/images", params=parameters, headers=bearer(TOKEN_OF_MINE))
    assert answer.status_code == 400


def test_a_token_for_reading_cannot_write(guarded_server: Server) -> None:
    image = first_image(guarded_server, "mine")
    for token in (READ_TOKEN, TOKEN_OF_MINE):
        answer = guarded_server.http.delete(f"/api/images/{image['id']}?bucket=mine", headers=bearer(token))
        assert answer.status_code == 403
        assert "writing needs API_TOKEN" in answer.json()["detail"]


def test_metrics_need_a_token_for_all_buckets(guarded_server: Server) -> None:
    assert guarded_server.http.get("/metrics", headers=bearer(TOKEN_OF_MINE)).status_code == 403
    assert guarded_server.http.get("/metrics", headers=bearer(READ_TOKEN)).status_code == 200


def test_shared_caches_may_not_store_what_a_token_opened(guarded_server: Server) -> None:
    image = first_image(guarded_server, "mine")
    for url in ("/api/images", "/", image["url"], image["thumbnail_url"], "/api/images/999999"):
        directives = guarded_server.http.get(url, headers=bearer(TOKEN_OF_MINE)).headers["cache-control"]
        assert "private" in directives, url
        assert "public" not in directives, url
    answer = guarded_server.http.get(image["url"], headers=bearer(TOKEN_OF_MINE))
    assert "immutable" in answer.headers["cache-control"]
    assert guarded_server.http.get("/api/images").headers["cache-control"] == "no-store"


def test_a_client_with_too_many_wrong_tokens_is_locked_out(two_collections: TwoCollections) -> None:
    with two_collections.serving("throttled", READ_TOKEN=READ_TOKEN) as server:
        # Wrong tokens are counted in the database, which other tests use too.
        server.http.headers["X-Forwarded-For"] = "203.0.113.20"
        for _ in range(2 * MAX_WRONG_TOKENS):  # repeating one wrong token is not guessing
            assert server.http.get("/api/images", headers=bearer("an-outdated-token")).status_code == 401
        for number in range(1, MAX_WRONG_TOKENS):
            assert server.http.get("/api/images", headers=bearer(f"guess-{number}")).status_code == 401
        for answer in (
            server.http.get("/api/images", headers=bearer(READ_TOKEN)),
            server.http.post("/sign-in", data={"token": READ_TOKEN}),
        ):
            assert answer.status_code == 429
            assert int(answer.headers["retry-after"]) > 0
        assert server.http.get("/sign-in").status_code == 200


def test_a_server_without_tokens_is_read_only_and_hides_collections_outside_buckets(
    two_collections: TwoCollections,
) -> None:
    with two_collections.serving("one bucket", BUCKETS="mine", BUCKET="yours") as server:
        assert [c["bucket"] for c in server.get("/api/collections")["collections"]] == ["mine"]
        for url in (*COLLECTION_URLS, "/api/images/1?bucket={}", "/files/{}/set%203/picture-0003.jpg"):
            assert server.http.get(url.format("yours")).status_code == 404, url
        assert "yours" not in server.http.get("/metrics").text
        assert server.http.get("/sign-in").headers["location"] == "/"
        refused = server.http.delete("/api/images/1?bucket=mine")
        assert (refused.status_code, "set API_TOKEN" in refused.json()["detail"]) == (403, True)
