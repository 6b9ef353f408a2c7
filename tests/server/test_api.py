"""The JSON API over real HTTP, as a client sees it."""

import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx2
import psycopg
import pytest

from tests.helpers.pictures import make_pictures
from tests.helpers.processes import Server, Syncer, make_environment, make_home, new_database, serving

pytestmark = pytest.mark.xdist_group("api")  # one worker makes the collection for all


@pytest.fixture(scope="module")
def filled(
    postgres: str, template: str, shared_folder: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Server]:
    """A server whose collection ``b`` holds 23 embedded pictures; tests only read from it."""
    folder = tmp_path_factory.mktemp("filled")
    make_pictures(folder / "pictures", 23)
    with new_database(postgres, template) as database_url:
        environment = make_environment(make_home(folder / "home", shared_folder), database_url)
        assert Syncer(environment)("sync", folder / "pictures", "--bucket", "b").status == 0
        with serving(environment, folder / "server.log") as running:
            yield running


def walk(server: Server, path: str, **parameters: Any) -> Iterator[list[dict[str, Any]]]:
    """Yield the pages of a list to its end."""
    cursor = None
    while True:
        answer = server.get(path, **parameters, **({"cursor": cursor} if cursor else {}))
        yield answer["images"]
        cursor = answer["next_cursor"]
        if cursor is None:
            return


def test_lists_are_walked_to_their_end_without_repeating_or_skipping(filled: Server) -> None:
    one = filled.get("/api/images", bucket="b", limit=1)["images"][0]
    for path, parameters, total in (
        ("/api/images", {}, 23),
        ("/api/search", {"q": "some colours"}, 23),
        (f"/api/images/{one['id']}/similar", {}, 22),
    ):
        pages = list(walk(filled, path, bucket="b", limit=5, **parameters))
        assert [len(page) for page in pages] == [5] * (total // 5) + [total % 5]
        ids = [image["id"] for page in pages for image in page]
        assert len(set(ids)) == total
        if path != "/api/images":
            scores = [image["score"] for page in pages for image in page]
            assert scores == sorted(scores, reverse=True)


def test_recent_images_come_newest_first(filled: Server) -> None:
    created = [image["created_at"] for image in filled.get("/api/images", bucket="b")["images"]]
    assert created == sorted(created, reverse=True)


def test_images_are_asked_for_by_their_ids(filled: Server) -> None:
    some = [image["id"] for image in filled.get("/api/images", bucket="b", limit=3)["images"]][::-1]
    wanted = ",".join(map(str, [*some, 999_999]))
    assert [image["id"] for image in filled.get("/api/images", bucket="b", ids=wanted)["images"]] == some


def test_an_image_tells_what_is_known_of_it(filled: Server) -> None:
    image = filled.get("/api/images", bucket="b", limit=1)["images"][0]
    assert (image["width"], image["height"], image["bucket"]) == (48, 32, "b")
    one = filled.get(f"/api/images/{image['id']}", bucket="b")
    assert one["key"] == image["key"]
    assert "exif" in one


def test_files_are_served_with_etags_and_ranges_and_nothing_else_is(filled: Server) -> None:
    image = filled.get("/api/images", bucket="b", limit=1)["images"][0]
    whole = filled.http.get(image["url"])
    assert whole.headers["content-type"] == "image/jpeg"
    assert "immutable" in whole.headers["cache-control"]
    again = filled.http.get(image["url"], headers={"If-None-Match": whole.headers["etag"]})
    assert again.status_code == 304
    part = filled.http.get(image["url"], headers={"Range": "bytes=2-5"})
    assert (part.status_code, part.content) == (206, whole.content[2:6])
    for path in (
        "/files/b/../../etc/passwd",
        "/files/b/%2e%2e/%2e%2e/etc/passwd",
        "/files/b/nothing.jpg",
        "/files/c/x",
    ):
        assert filled.http.get(path).status_code == 404


@pytest.mark.parametrize(
    ("path", "status"),
    [
        ("/api/search?bucket=b", 400),
        ("/api/search?bucket=b&q=%00", 400),
        ("/api/search?bucket=b&q=" + "x" * 1001, 400),
        ("/api/search?bucket=b&q=" + "x" * 10_000, 400),
        ("/api/search?bucket=b&q=x&limit=0", 400),
        ("/api/search?bucket=b&q=x&limit=201", 400),
        ("/api/search?bucket=b&q=x&limit=1e3", 400),
        ("/api/search?bucket=b&q=x&cursor=nonsense", 400),
        ("/api/images?bucket=nothing", 404),
        ("/api/images?bucket=%00", 404),
        ("/api/images?bucket=b&ids=1,x", 400),
        ("/api/images/999999?bucket=b", 404),
        ("/api/images/99999999999999999999?bucket=b", 404),
        ("/api/images/-1?bucket=b", 404),
        ("/api/images/x/similar?bucket=b", 404),
        ("/nowhere", 404),
    ],
)
def test_bad_requests_are_told_what_is_wrong(filled: Server, path: str, status: int) -> None:
    answer = filled.http.get(path)
    assert answer.status_code == status
    assert answer.headers["content-type"] == "application/problem+json"
    problem = answer.json()
    assert problem["status"] == status
    assert problem["detail"]
    assert filled.http.post("/api/search/nothing").status_code == 404


def test_a_cursor_belongs_to_its_list(filled: Server) -> None:
    cursor = filled.get("/api/images", bucket="b", limit=5)["next_cursor"]
    answer = filled.http.get("/api/search", params={"bucket": "b", "q": "x", "cursor": cursor})
    assert answer.status_code == 400


def test_progress_is_told_at_once_and_on_every_change(syncer: Syncer, server: Server, tmp_path: Path) -> None:
    make_pictures(tmp_path / "pictures", 3)
    assert syncer("upload", tmp_path / "pictures", "--bucket", "b").status == 0
    lines: list[str] = []
    began, ended = threading.Event(), threading.Event()

    def listen() -> None:
        with httpx2.stream("GET", f"{server.url}/api/stats/stream?bucket=b", timeout=60) as stream:
            for line in stream.iter_lines():
                lines.append(line)
                began.set()
                if '"embedded": 3' in line:
                    ended.set()
                    return

    listener = threading.Thread(target=listen, daemon=True)
    listener.start()
    assert began.wait(10)
    assert syncer("embed", "--bucket", "b").status == 0
    assert ended.wait(10)
    assert "event: stats" in lines
    assert '"pending": 3' in next(line for line in lines if line.startswith("data:"))


def test_a_server_without_its_database_is_alive_and_says_that_it_is_not_ready(
    server: Server, database_url: str, postgres: str
) -> None:
    assert server.http.get("/readyz").status_code == 200
    name = database_url.split("/")[-1].split("?")[0]
    with psycopg.connect(postgres, autocommit=True) as conn:
        conn.execute(f'ALTER DATABASE "{name}" ALLOW_CONNECTIONS false')
        conn.execute("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = %s", [name])
        assert server.http.get("/healthz").status_code == 200
        unavailable = server.http.get("/api/images")
        assert unavailable.status_code == 503
        assert unavailable.headers["retry-after"]
        assert server.http.get("/readyz").status_code == 503
        conn.execute(f'ALTER DATABASE "{name}" ALLOW_CONNECTIONS true')
    assert server.http.get("/readyz").status_code == 200


def test_every_answer_carries_security_headers_and_the_page_names_no_other_host(filled: Server) -> None:
    page = filled.http.get("/?bucket=b")
    policy = page.headers["content-security-policy"]
    assert "unsafe-inline" not in policy
    assert page.headers["x-content-type-options"] == "nosniff"
    assert "https://" not in page.text.replace("http://www.w3.org", "")


def test_a_page_asked_for_something_that_is_not_there_says_so_kindly(filled: Server) -> None:
    page = filled.http.get("/?bucket=unheard-of")
    assert page.status_code == 404
    assert "unheard-of" in page.text
    assert page.headers["content-type"].startswith("text/html")
