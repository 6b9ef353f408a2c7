"""Failed images: their list, their page and their retry, over real HTTP."""

from collections.abc import Iterator

import pytest

from tests.helpers.pictures import make_pictures
from tests.helpers.processes import Server, Syncer, serving
from tests.server.conftest import API_TOKEN, Environment, log_of

pytestmark = pytest.mark.xdist_group("failures")

BEARER = {"Authorization": f"Bearer {API_TOKEN}"}


@pytest.fixture(scope="module")
def server(module_environment: Environment, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A server whose collection ``b`` has one image, and two files that are none."""
    folder = tmp_path_factory.mktemp("failing")
    make_pictures(folder, 1)
    for name in ("broken.jpg", "<b>.png"):
        (folder / name).write_text("no picture")
    done = Syncer(module_environment)("sync", folder, "--bucket", "b")
    assert done.status == 3, done.stderr
    with serving(module_environment | {"API_TOKEN": API_TOKEN}, log_of(module_environment)) as running:
        yield running


def failed(server: Server) -> list[str]:
    return [failure["key"] for failure in server.get("/api/failures", bucket="b")["failures"]]


def test_failures_are_listed_retried_by_key_and_all_at_once(server: Server) -> None:
    first = server.get("/api/failures", bucket="b")["failures"][0]
    assert (first["key"], first["reason"], first["image"]) == ("<b>.png", "not_an_image", None)

    page = server.http.get("/failures", params={"bucket": "b"}, headers={"Accept-Language": "de"}).text
    assert "2 Bilder konnten nicht indiziert werden" in page
    assert "Kein Bild" in page
    assert "&lt;b&gt;.png" in page
    assert "<form" not in page
    stats = server.get("/api/stats", bucket="b")
    assert (stats["total"], stats["failed"], stats["rejected"]) == (3, 2, 2)
    assert '<p class="count" id="count">1 image</p>' in server.http.get("/?bucket=b").text

    path = "/api/failures/retry"
    assert server.http.post(path, params={"bucket": "b"}).status_code == 401
    retried = server.http.post(path, params={"bucket": "b", "key": "broken.jpg"}, headers=BEARER)
    assert retried.json() == {"retried": 1}
    assert failed(server) == ["<b>.png"]
    redirected = server.http.post(path, params={"bucket": "b"}, headers=BEARER | {"Accept": "text/html"})
    assert (redirected.status_code, redirected.headers["Location"]) == (303, "/failures?bucket=b")
    assert failed(server) == []
