"""Invalid requests are refused with a reason."""

import pytest

from tests.helpers.processes import Server

pytestmark = pytest.mark.xdist_group("filled")


@pytest.mark.parametrize(
    ("path", "status", "detail"),
    [
        ("/api/search?bucket=b", 400, "q is missing"),
        ("/api/search?bucket=b&q=%00", 400, "q contains NUL"),
        ("/api/search?bucket=b&q=" + "x" * 1001, 400, "q has 1,001 characters: give at most 1,000"),
        ("/api/search?bucket=b&q=x&limit=0", 400, "limit is '0': give a whole number from 1 to 200"),
        ("/api/search?bucket=b&q=x&limit=201", 400, "limit is '201'"),
        ("/api/search?bucket=b&q=x&limit=1e3", 400, "limit is '1e3'"),
        ("/api/search?bucket=b&q=x&cursor=nonsense", 400, "cursor"),
        ("/api/images?bucket=nothing", 404, "'nothing'"),
        ("/api/images?bucket=%00", 404, "collection"),
        ("/api/images?bucket=b&ids=1,x", 400, "ids"),
        ("/api/images/999999?bucket=b", 404, "999999"),
        ("/api/images/99999999999999999999?bucket=b", 404, "an id is a whole number"),
        ("/api/images/x/similar?bucket=b", 404, "'x'"),
        ("/nowhere", 404, "'/nowhere'"),
    ],
)
def test_an_invalid_request_is_refused_with_a_problem_that_names_the_cause(
    filled_server: Server, path: str, status: int, detail: str
) -> None:
    answer = filled_server.http.get(path)
    assert answer.status_code == status
    assert answer.headers["content-type"] == "application/problem+json"
    assert answer.json()["status"] == status
    assert detail in answer.json()["detail"]


def test_a_cursor_of_another_list_is_refused(filled_server: Server) -> None:
    cursor = filled_server.get("/api/images", bucket="b", limit=5)["next_cursor"]
    answer = filled_server.http.get("/api/search", params={"bucket": "b", "q": "x", "cursor": cursor})
    assert answer.status_code == 400


@pytest.mark.parametrize(
    ("query", "status", "detail"),
    [("bucket=unheard-of", 404, "unheard-of"), ("bucket=b&similar=x", 400, "give an image id, a whole number")],
)
def test_the_gallery_shows_the_problem_as_a_page(filled_server: Server, query: str, status: int, detail: str) -> None:
    page = filled_server.http.get(f"/?{query}")
    assert page.status_code == status
    assert detail in page.text
    assert page.headers["content-type"].startswith("text/html")
