"""Pictures to search for: uploaded, fetched by URL and reused by handle, over HTTP with the sample photos."""

import base64
import io
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import httpx2
import psycopg
import pytest
import uvicorn
from PIL import Image

from server.app import create_app
from server.request_body import MAX_FILES_PER_CLIENT
from server.search.query_images import CONCURRENCY
from server.settings import ServerSettings
from server.url_fetcher import UrlFetcher
from tests.helpers.composed_queries import post_terms, upload
from tests.helpers.corpus import Case, png_bomb, refused
from tests.helpers.pictures import picture
from tests.helpers.processes import Server, serving

pytestmark = pytest.mark.xdist_group("photo_server")  # one worker syncs the photos for all


def png(seed: int) -> bytes:
    return picture(seed, (320, 240), "PNG")


def test_an_uploaded_picture_finds_itself_and_is_not_stored(
    photo_server: Server, photos: Path, photo_environment: dict[str, str]
) -> None:
    content = (photos / "coffee.png").read_bytes()
    answer = upload(photo_server, content)
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

    first = photo_server.get("/api/search", bucket="b", query_image=seen["query_image"], limit=1)["images"][0]
    assert first["key"] == "coffee.png"
    assert first["score"] > 0.999
    assert not first["weak"]
    files = [path for path in Path(photo_environment["IMAGE_BROWSER_HOME"]).rglob("*") if path.is_file()]
    assert content not in [
        path.read_bytes() for path in files if "buckets" not in path.parts and "models" not in path.parts
    ]


def test_equal_pictures_share_a_handle_on_all_servers(
    photo_server: Server, photo_environment: dict[str, str], tmp_path: Path
) -> None:
    one = upload(photo_server, png(1)).json()
    other = upload(photo_server, png(2)).json()
    assert one["query_image"] != other["query_image"]
    with psycopg.connect(photo_environment["DATABASE_URL"]) as conn:
        conn.execute("UPDATE query_images SET expires_at = now() + interval '1 hour'")
    with serving(photo_environment, tmp_path / "server.log") as second:
        again = upload(second, png(1)).json()
    assert again["query_image"] == one["query_image"]
    assert datetime.fromisoformat(again["expires_at"]) >= datetime.fromisoformat(one["expires_at"])


def test_a_picture_can_be_sent_as_a_form(photo_server: Server) -> None:
    form = photo_server.http.post("/api/query-images?bucket=b", files={"file": ("a.png", png(1))})
    assert form.status_code == 200, form.text
    assert form.json()["query_image"] == upload(photo_server, png(1)).json()["query_image"]
    assert photo_server.http.post("/api/query-images?bucket=b", files={"text": (None, "hello")}).status_code == 400
    two = [("file", ("a.png", png(1))), ("file", ("b.png", png(2)))]
    assert photo_server.http.post("/api/query-images?bucket=b", files=two).status_code == 400


def test_expired_and_foreign_handles_get_a_404_and_expired_rows_are_pruned(
    photo_server: Server, photo_environment: dict[str, str]
) -> None:
    handle = upload(photo_server, png(3)).json()["query_image"]
    other = upload(photo_server, png(4)).json()["query_image"]
    assert post_terms(photo_server, {"query_image": handle}).status_code == 200
    with psycopg.connect(photo_environment["DATABASE_URL"]) as conn:
        conn.execute("UPDATE query_images SET expires_at = now() WHERE handle = %s", [handle])
        conn.execute("UPDATE query_images SET model = 'clip:other' WHERE handle = %s", [other])
    expired = post_terms(photo_server, {"text": "a"}, {"query_image": handle})
    assert expired.status_code == 404
    assert expired.json()["detail"].startswith("terms[1].query_image is unknown, or has expired")
    foreign = photo_server.http.get("/api/search", params={"bucket": "b", "query_image": other})
    assert foreign.status_code == 404
    assert "another model" in foreign.json()["detail"]
    assert post_terms(photo_server, {"query_image": "A" * 22}).status_code == 404
    assert upload(photo_server, png(5)).status_code == 200
    with psycopg.connect(photo_environment["DATABASE_URL"]) as conn:
        assert conn.execute("SELECT count(*) FROM query_images WHERE handle = %s", [handle]).fetchone() == (0,)


@pytest.mark.parametrize("case", refused(), ids=lambda case: case.name)
def test_a_file_that_is_not_an_image_is_refused(photo_server: Server, case: Case) -> None:
    answer = upload(photo_server, case.data)
    assert answer.status_code == 400, answer.text
    assert answer.json()["detail"].startswith("the picture cannot be used: ")


def test_too_large_and_malformed_uploads_are_refused(photo_server: Server) -> None:
    large = png(0) + bytes(21 << 20)
    assert upload(photo_server, large).status_code == 413
    assert photo_server.http.post("/api/query-images?bucket=b", files={"file": ("a.png", large)}).status_code == 413
    form = {"Content-Type": "multipart/form-data"}
    assert photo_server.http.post("/api/query-images?bucket=b", content=b"--x", headers=form).status_code == 400


def test_a_client_that_stalls_its_pictures_does_not_block_the_others(photo_server: Server) -> None:
    head = "POST /api/query-images?bucket=b HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1000000\r\n"
    address = ("127.0.0.1", photo_server.http.base_url.port or 0)
    with ExitStack() as stack:
        stalled = [stack.enter_context(socket.create_connection(address)) for _ in range(2 * CONCURRENCY)]
        for connection in stalled:
            connection.sendall(f"{head}X-Forwarded-For: 203.0.113.9\r\n\r\nfour".encode())
        assert upload(photo_server, png(6)).status_code == 200
        for connection in stalled[MAX_FILES_PER_CLIENT:]:
            assert b" 429 " in connection.recv(1000).partition(b"\r\n")[0]
        assert upload(photo_server, png(7)).status_code == 200


@pytest.fixture(scope="module")
def loopback(photo_environment: dict[str, str]) -> Iterator[tuple[Server, str, list[str]]]:
    """A server that may fetch from this machine, the URL of a site with pictures, and the paths requested from it."""
    requested: list[str] = []
    pictures = {"/picture": png(9), "/huge": png_bomb(8000, 6400)}

    class Site(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            requested.append(self.path)
            self.send_response(200 if self.path in pictures else 404)
            self.end_headers()
            self.wfile.write(pictures.get(self.path, b"nothing"))

        def log_message(self, *_: Any) -> None:
            pass

    fetcher = UrlFetcher(allowed=lambda address: address.is_loopback, ports=range(65_536))
    settings = ServerSettings(
        database_url=photo_environment["DATABASE_URL"],  # type: ignore[arg-type]
        image_browser_home=Path(photo_environment["IMAGE_BROWSER_HOME"]),
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
            yield Server(str(http.base_url), None, http), f"http://127.0.0.1:{site.server_port}", requested  # type: ignore[arg-type]
    finally:
        serving_app.should_exit = True
        thread.join()
        site.shutdown()
        site.server_close()


def test_a_picture_found_by_its_url_is_fetched_once_for_all_pages(
    photo_server: Server, loopback: tuple[Server, str, list[str]]
) -> None:
    server, site, requested = loopback
    term = {"image_url": f"{site}/picture"}
    first = post_terms(server, term, limit=5).json()
    second = post_terms(server, term, limit=5, cursor=first["next_cursor"]).json()
    assert len({image["id"] for image in first["images"] + second["images"]}) == 10
    assert requested == ["/picture"]
    handle = server.http.post("/api/query-images?bucket=b", json={"url": f"{site}/picture"}).json()["query_image"]
    assert handle == upload(photo_server, png(9)).json()["query_image"]
    by_handle = photo_server.get("/api/search", bucket="b", query_image=handle, limit=5)
    assert by_handle["images"] == first["images"]

    missing = server.http.post("/api/query-images?bucket=b", json={"url": f"{site}/nothing"})
    assert missing.status_code == 400
    assert "status 404" in missing.json()["detail"]


def test_a_picture_of_more_than_50_megapixels_is_refused_whatever_its_way(
    loopback: tuple[Server, str, list[str]],
) -> None:
    server, site, _ = loopback
    for answer in (
        upload(server, png_bomb(8000, 6400)),
        server.http.post("/api/query-images?bucket=b", json={"url": f"{site}/huge"}),
        post_terms(server, {"image_url": f"{site}/huge"}),
    ):
        assert answer.status_code == 400
        assert "it declares 8,000 x 6,400 pixels; the limit is 50 million" in answer.json()["detail"]


@pytest.mark.parametrize("url", ["http://127.0.0.1/a.png", "http://169.254.169.254/latest/", "file:///etc/passwd"])
def test_a_private_url_is_refused_on_both_routes(photo_server: Server, url: str) -> None:
    for answer in (
        post_terms(photo_server, {"text": "a"}, {"image_url": url}),
        photo_server.http.post("/api/query-images?bucket=b", json={"url": url}),
    ):
        assert answer.status_code == 400
        assert answer.headers["content-type"] == "application/problem+json"
