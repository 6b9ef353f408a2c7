"""Sums of texts and images, uploaded pictures and their handles: over real HTTP, with the sample photos."""

import base64
import io
import threading
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import httpx2
import numpy as np
import psycopg
import pytest
import uvicorn
from PIL import Image

from server.app import create_app
from server.settings import ServerSettings
from server.url_fetcher import UrlFetcher
from tests.helpers.corpus import Case, refused
from tests.helpers.processes import Server, Syncer, make_environment, make_home, new_database, serving

pytestmark = pytest.mark.xdist_group("composed")  # one worker makes the collection for all


@pytest.fixture(scope="module")
def database_address(postgres: str, template: str) -> Iterator[str]:
    with new_database(postgres, template) as address:
        yield address


@pytest.fixture(scope="module")
def environment(database_address: str, shared_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    home = make_home(tmp_path_factory.mktemp("composed") / "home", shared_folder)
    return make_environment(home, database_address)


@pytest.fixture(scope="module")
def gallery(environment: dict[str, str], photos: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A server whose collection ``b`` holds the sample photos."""
    done = Syncer(environment)("sync", photos, "--bucket", "b")
    assert done.status == 0, done.stderr
    with serving(environment, tmp_path_factory.mktemp("log") / "server.log") as running:
        yield running


@pytest.fixture(scope="module")
def ids(gallery: Server) -> dict[str, int]:
    """The photos' ids by their names."""
    images = gallery.get("/api/images", bucket="b", limit=200)["images"]
    return {Path(image["key"]).stem: image["id"] for image in images}


def post(server: Server, *terms: dict[str, Any], **parameters: Any) -> Any:
    """Return the answer to a composed query."""
    return server.http.post("/api/search", json={"bucket": "b", "terms": list(terms), **parameters})


def found(server: Server, *terms: dict[str, Any], **parameters: Any) -> list[dict[str, Any]]:
    """Return the images that a composed query finds."""
    answer = post(server, *terms, **{"limit": 200} | parameters)
    assert answer.status_code == 200, answer.text
    return answer.json()["images"]


def names(images: list[dict[str, Any]]) -> list[str]:
    return [Path(image["key"]).stem for image in images]


def scores(images: list[dict[str, Any]]) -> dict[str, float]:
    return {Path(image["key"]).stem: image["score"] for image in images}


def upload(server: Server, content: bytes, **parameters: Any) -> Any:
    return server.http.post(
        "/api/query-images", params={"bucket": "b"} | parameters, content=content, headers={"Content-Type": "image/png"}
    )


def picture(seed: int = 0, size: tuple[int, int] = (320, 240)) -> bytes:
    noise = np.random.default_rng(seed).integers(0, 256, (6, 8, 3), dtype=np.uint8)
    file = io.BytesIO()
    Image.fromarray(noise).resize(size).save(file, "PNG")
    return file.getvalue()


# Sums


def test_a_sum_of_one_text_is_what_the_text_finds_and_their_cursors_go_together(gallery: Server) -> None:
    by_text = gallery.get("/api/search", bucket="b", q="a cat", limit=4)
    by_sum = post(gallery, {"text": "A cat", "weight": 3}, limit=4).json()
    assert by_sum["images"] == by_text["images"]
    following = post(gallery, {"text": "a cat"}, limit=4, cursor=by_text["next_cursor"]).json()
    assert following == gallery.get("/api/search", bucket="b", q="a cat", limit=4, cursor=by_text["next_cursor"])


def test_a_sum_finds_what_each_term_alone_puts_lower(gallery: Server, ids: dict[str, int]) -> None:
    both = names(found(gallery, {"text": "a cat"}, {"text": "a cup of coffee"}))
    assert set(both[:2]) == {"cat", "coffee"}
    both = names(found(gallery, {"image_id": ids["motorcycle-left"]}, {"text": "a cup of coffee"}))
    assert set(both[:2]) == {"motorcycle-right", "coffee"}
    assert "motorcycle-left" not in both


def test_a_negative_weight_pushes_away(gallery: Server, ids: dict[str, int]) -> None:
    places = {"text": "a motorcycle", "weight": 1}
    before = names(found(gallery, {"text": "a machine"}, places))
    after = names(found(gallery, {"text": "a machine"}, places | {"weight": -1}))
    assert set(before[:2]) == {"motorcycle-left", "motorcycle-right"}
    assert after.index("motorcycle-left") > len(after) // 2
    assert after.index("motorcycle-right") > len(after) // 2

    flowers = scores(found(gallery, {"text": "something colourful"}))
    fewer = scores(found(gallery, {"text": "something colourful"}, {"image_id": ids["flower"], "weight": -0.5}))
    assert "flower" not in fewer
    assert flowers["flower"] > 0
    without_cats = names(found(gallery, {"text": "an animal"}, {"text": "a cat", "weight": -2}))
    assert without_cats[-1] == "cat"


def test_terms_of_an_address_are_those_of_a_body(gallery: Server, ids: dict[str, int]) -> None:
    address = [("bucket", "b"), ("q", "a cat"), ("term", f"0.5*image:{ids['coffee']}"), ("term", "-text:a rocket")]
    answer = gallery.http.get("/api/search", params=address)
    assert answer.status_code == 200, answer.text
    body = post(
        gallery,
        {"text": "a cat"},
        {"image_id": ids["coffee"], "weight": 0.5},
        {"text": "a rocket", "weight": -1},
    )
    assert body.json() == answer.json()
    page = gallery.http.get("/", params=address)
    assert page.status_code == 200
    for image in answer.json()["images"][:3]:
        assert image["url"].split("?")[0] in page.text


def test_a_composed_walk_shows_every_image_once_also_on_another_server(
    gallery: Server, environment: dict[str, str], ids: dict[str, int], tmp_path: Path
) -> None:
    handle = upload(gallery, picture()).json()["query_image"]
    terms: list[dict[str, Any]] = [
        {"text": "never asked before"},
        {"query_image": handle, "weight": 0.7},
        {"image_id": ids["cat"], "weight": -0.3},
    ]
    seen, cursor = [], None
    with serving(environment, tmp_path / "server.log") as other:
        for turn in range(20):
            server = (gallery, other)[turn % 2]
            answer = post(server, *terms, limit=4, **({"cursor": cursor} if cursor else {})).json()
            seen += names(answer["images"])
            cursor = answer["next_cursor"]
            if cursor is None:
                break
    assert sorted(seen) == sorted(set(ids) - {"cat"})
    assert seen == names(found(gallery, *terms))


def test_a_cursor_belongs_to_its_terms(gallery: Server) -> None:
    cursor = post(gallery, {"text": "a"}, {"text": "b"}, limit=2).json()["next_cursor"]
    assert post(gallery, {"text": "a"}, {"text": "b"}, limit=2, cursor=cursor).status_code == 200
    for other in ({"text": "c"}, {"text": "b", "weight": 2}, {"text": "b", "weight": -1}):
        assert post(gallery, {"text": "a"}, other, limit=2, cursor=cursor).status_code == 400


def test_filters_hold_for_sums_too(gallery: Server) -> None:
    images = found(gallery, {"text": "a cat"}, {"text": "a rocket"}, filters={"orientation": "portrait"})
    assert images
    assert all(image["width"] < image["height"] for image in images)


def test_terms_that_cancel_each_other_out_are_told_so(gallery: Server, ids: dict[str, int], photos: Path) -> None:
    answer = post(gallery, {"text": "a cat"}, {"text": "a  CAT", "weight": -1})
    assert answer.status_code == 400
    assert "cancel each other out" in answer.json()["detail"]
    # The photo's stored vector has been rounded, and what is left is the rounding.
    handle = upload(gallery, (photos / "cat.png").read_bytes()).json()["query_image"]
    answer = post(gallery, {"image_id": ids["cat"]}, {"query_image": handle, "weight": -1})
    assert answer.status_code == 400


# Pictures


def test_an_uploaded_picture_finds_itself_and_is_not_kept(
    gallery: Server, photos: Path, environment: dict[str, str]
) -> None:
    content = (photos / "coffee.png").read_bytes()
    answer = upload(gallery, content)
    assert answer.status_code == 200, answer.text
    seen = answer.json()
    assert (seen["width"], seen["height"]) == (600, 400)
    media_type, _, thumbnail = seen["thumbnail"].partition(",")
    assert media_type == "data:image/webp;base64"
    with Image.open(io.BytesIO(base64.b64decode(thumbnail))) as small:
        assert small.size == (192, 128)
    assert len(seen["thumbnail"]) < 20_000
    remaining = datetime.fromisoformat(seen["expires_at"]) - datetime.now(UTC)
    assert timedelta(days=6) < remaining <= timedelta(days=7)

    first = gallery.get("/api/search", bucket="b", query_image=seen["query_image"], limit=1)["images"][0]
    assert first["key"] == "coffee.png"
    assert first["score"] > 0.999
    assert not first["weak"]
    kept = [path for path in Path(environment["IMAGE_BROWSER_HOME"]).rglob("*") if path.is_file()]
    assert content not in [
        path.read_bytes() for path in kept if "buckets" not in path.parts and "models" not in path.parts
    ]


def test_the_same_picture_has_the_same_handle_and_another_has_another(
    gallery: Server, database_address: str, environment: dict[str, str], tmp_path: Path
) -> None:
    one = upload(gallery, picture(1)).json()
    other = upload(gallery, picture(2)).json()
    assert one["query_image"] != other["query_image"]
    with psycopg.connect(database_address) as conn:
        conn.execute("UPDATE query_images SET expires_at = now() + interval '1 hour'")
    with serving(environment, tmp_path / "server.log") as second:
        again = upload(second, picture(1)).json()
    assert again["query_image"] == one["query_image"]
    assert datetime.fromisoformat(again["expires_at"]) >= datetime.fromisoformat(one["expires_at"])


def test_a_picture_comes_as_a_form_too(gallery: Server) -> None:
    form = gallery.http.post("/api/query-images?bucket=b", files={"file": ("a.png", picture(1))})
    assert form.status_code == 200, form.text
    assert form.json()["query_image"] == upload(gallery, picture(1)).json()["query_image"]
    assert gallery.http.post("/api/query-images?bucket=b", files={"text": (None, "hello")}).status_code == 400
    two = [("file", ("a.png", picture(1))), ("file", ("b.png", picture(2)))]
    assert gallery.http.post("/api/query-images?bucket=b", files=two).status_code == 400


def test_expired_and_foreign_handles_are_told_so_and_old_rows_go(gallery: Server, database_address: str) -> None:
    handle = upload(gallery, picture(3)).json()["query_image"]
    other = upload(gallery, picture(4)).json()["query_image"]
    assert post(gallery, {"query_image": handle}).status_code == 200
    with psycopg.connect(database_address) as conn:
        conn.execute("UPDATE query_images SET expires_at = now() WHERE handle = %s", [handle])
        conn.execute("UPDATE query_images SET model = 'clip:other' WHERE handle = %s", [other])
    expired = post(gallery, {"text": "a"}, {"query_image": handle})
    assert expired.status_code == 404
    assert expired.json()["detail"].startswith("terms[1].query_image is unknown, or has expired")
    foreign = gallery.http.get("/api/search", params={"bucket": "b", "query_image": other})
    assert foreign.status_code == 404
    assert "another model" in foreign.json()["detail"]
    assert post(gallery, {"query_image": "A" * 22}).status_code == 404
    assert upload(gallery, picture(5)).status_code == 200
    with psycopg.connect(database_address) as conn:
        assert conn.execute("SELECT count(*) FROM query_images WHERE handle = %s", [handle]).fetchone() == (0,)


@pytest.mark.parametrize("case", refused(), ids=lambda case: case.name)
def test_a_file_that_is_no_image_is_refused(gallery: Server, case: Case) -> None:
    answer = upload(gallery, case.data)
    assert answer.status_code == 400, answer.text
    assert answer.json()["detail"].startswith("the picture cannot be used: ")


def test_uploads_are_bounded(gallery: Server) -> None:
    large = picture() + bytes(21 << 20)
    assert upload(gallery, large).status_code == 413
    assert gallery.http.post("/api/query-images?bucket=b", files={"file": ("a.png", large)}).status_code == 413
    assert (
        gallery.http.post(
            "/api/query-images?bucket=b", content=b"--x", headers={"Content-Type": "multipart/form-data"}
        ).status_code
        == 400
    )


# Addresses. That what is fetched is bounded and public is tested in test_fetching.


@pytest.fixture(scope="module")
def loopback(environment: dict[str, str]) -> Iterator[tuple[Server, str, list[str]]]:
    """A server that may fetch from this machine, the address of a site with a picture, and what the site was asked."""
    asked: list[str] = []

    class Site(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            asked.append(self.path)
            self.send_response(200 if self.path == "/picture" else 404)
            self.end_headers()
            self.wfile.write(picture(9) if self.path == "/picture" else b"nothing")

        def log_message(self, *_: Any) -> None:
            pass

    fetcher = UrlFetcher(allowed=lambda address: address.is_loopback, ports=range(65_536))
    settings = ServerSettings(
        database_url=environment["DATABASE_URL"],  # type: ignore[arg-type]
        image_browser_home=Path(environment["IMAGE_BROWSER_HOME"]),
    )
    serving_app = uvicorn.Server(uvicorn.Config(create_app(settings, fetcher=fetcher), port=0, log_config=None))
    thread = threading.Thread(target=serving_app.run)
    site = ThreadingHTTPServer(("127.0.0.1", 0), Site)
    threading.Thread(target=site.serve_forever, daemon=True).start()
    thread.start()
    try:
        while not serving_app.started:
            assert thread.is_alive()
            time.sleep(0.05)
        port = serving_app.servers[0].sockets[0].getsockname()[1]
        with httpx2.Client(base_url=f"http://127.0.0.1:{port}", timeout=30) as http:
            yield Server(str(http.base_url), None, http), f"http://127.0.0.1:{site.server_port}", asked  # type: ignore[arg-type]
    finally:
        serving_app.should_exit = True
        thread.join()
        site.shutdown()
        site.server_close()


def test_a_picture_is_searched_for_by_its_address_and_fetched_once_for_all_pages(
    gallery: Server, loopback: tuple[Server, str, list[str]]
) -> None:
    server, site, asked = loopback
    term = {"image_url": f"{site}/picture"}
    first = post(server, term, limit=5).json()
    second = post(server, term, limit=5, cursor=first["next_cursor"]).json()
    assert len({image["id"] for image in first["images"] + second["images"]}) == 10
    assert asked == ["/picture"]
    handle = server.http.post("/api/query-images?bucket=b", json={"url": f"{site}/picture"}).json()["query_image"]
    assert handle == upload(gallery, picture(9)).json()["query_image"]
    by_handle = gallery.get("/api/search", bucket="b", query_image=handle, limit=5)
    assert by_handle["images"] == first["images"]

    missing = server.http.post("/api/query-images?bucket=b", json={"url": f"{site}/nothing"})
    assert missing.status_code == 400
    assert "status 404" in missing.json()["detail"]


@pytest.mark.parametrize("address", ["http://127.0.0.1/a.png", "http://169.254.169.254/latest/", "file:///etc/passwd"])
def test_an_address_that_is_not_public_is_refused_whichever_way_it_comes(gallery: Server, address: str) -> None:
    for answer in (
        post(gallery, {"text": "a"}, {"image_url": address}),
        gallery.http.post("/api/query-images?bucket=b", json={"url": address}),
    ):
        assert answer.status_code == 400
        assert answer.headers["content-type"] == "application/problem+json"


# What is wrong is named


@pytest.mark.parametrize(
    ("body", "words"),
    [
        ('{"terms": []}', "terms"),
        ('{"terms": {}}', "terms"),
        ("{}", "terms is missing"),
        ("[]", "the body"),
        ("nonsense", "not JSON"),
        ("{" * 1000, "not JSON"),
        ('{"terms": [{"text": "a"}], "limit": 0}', "limit is 0"),
        ('{"terms": [{"text": "a"}], "limit": "5"}', "limit is '5'"),
        ('{"terms": [{"text": "a"}], "cursor": "x"}', "cursor"),
        ('{"terms": [{"text": "a"}], "colour": 1}', "colour is unknown"),
        ('{"terms": [{"text": "a"}], "filters": {"min_width": -1}}', "filters.min_width is -1"),
        ('{"terms": [{"text": "a"}], "bucket": 3}', "bucket is 3"),
        ('{"terms": [{"text": "a"}, {"text": "b", "weight": 101}]}', "terms[1].weight is 101"),
        ('{"terms": [{"text": "a", "weight": 0}]}', "terms[0].weight is 0"),
        ('{"terms": [{"text": "a", "weight": 1e400}]}', "terms[0].weight is inf"),
        ('{"terms": [{"text": "a", "weight": NaN}]}', "terms[0].weight is nan"),
        ('{"terms": [{"text": "a", "weight": "1"}]}', "terms[0].weight is '1'"),
        ('{"terms": [{"text": "a", "weight": null}]}', "terms[0].weight is None"),
        ('{"terms": [{"text": ""}]}', "terms[0].text"),
        ('{"terms": [{"text": 5}]}', "terms[0].text"),
        ('{"terms": [{"text": "\\u0000"}]}', "terms[0].text contains NUL or an unpaired surrogate"),
        ('{"terms": [{"text": "\\ud800"}]}', "not JSON"),
        ('{"terms": [{"text": "' + "x" * 10_000 + '"}]}', "terms[0].text has 10,000 characters"),
        ('{"terms": [{"text": "a", "image_id": 1}]}', "terms[0]: give exactly one of"),
        ('{"terms": [{"weight": 1}]}', "terms[0]: give exactly one of"),
        ('{"terms": [{"image_id": 0}]}', "terms[0].image_id is 0"),
        ('{"terms": [{"image_id": 99999999999999999999}]}', "terms[0].image_id"),
        ('{"terms": [{"image_id": true}]}', "terms[0].image_id"),
        ('{"terms": [{"query_image": "../../etc/passwd"}]}', "terms[0].query_image"),
        ('{"terms": [{"image_url": "nowhere"}]}', "terms[0].image_url is 'nowhere'"),
        ('{"terms": [{"image_url": "http://a\\u0000b/"}]}', "terms[0].image_url"),
        ('{"terms": [' + ", ".join(['{"text": "a"}'] * 17) + "]}", "terms has 17 items"),
    ],
)
def test_a_bad_sum_is_told_what_is_wrong_with_it(gallery: Server, body: str, words: str) -> None:
    answer = gallery.http.post("/api/search", content=body, headers={"Content-Type": "application/json"})
    assert answer.status_code == 400, answer.text
    assert words in answer.json()["detail"]


@pytest.mark.parametrize(
    "query",
    [
        "",
        "?q=",
        "?term=people",
        "?term=%2Btext:people",
        "?term=image:cat",
        "?term=1000*text:a",
        "?term=text:%00",
        "?term=text:" + "x" * 1001,
        "?query_image=short",
        "?" + "&".join(["term=text:a"] * 17),
    ],
)
def test_a_bad_address_is_told_so_by_the_api_and_by_the_page(gallery: Server, query: str) -> None:
    answer = gallery.http.get(f"/api/search{query}")
    assert answer.status_code == 400
    if query not in ("", "?q="):
        assert gallery.http.get(f"/{query}").status_code == 400


def test_what_is_not_there_is_told_so(gallery: Server, ids: dict[str, int]) -> None:
    assert post(gallery, {"image_id": 999_999}).status_code == 404
    assert gallery.http.post("/api/search", json={"bucket": "c", "terms": [{"text": "a"}]}).status_code == 404
    assert upload(gallery, picture(), bucket="c").status_code == 404
    assert gallery.http.post("/api/search", content="{}").status_code == 415
    assert (
        gallery.http.post(
            "/api/search", content=b" " * (2 << 20), headers={"Content-Type": "application/json"}
        ).status_code
        == 413
    )
