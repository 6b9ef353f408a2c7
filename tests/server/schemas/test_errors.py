"""Methods that a path does not have, and errors as pages."""

import pytest

from tests.helpers.processes import Server

pytestmark = pytest.mark.xdist_group("filled")


@pytest.mark.parametrize("method", ["HEAD", "OPTIONS"])
@pytest.mark.parametrize("path", ["/", "/api/images", "/api/search?q=x", "/api/stats/stream", "/healthz", "/docs"])
def test_every_path_answers_head_and_options(filled_server: Server, method: str, path: str) -> None:
    answer = filled_server.http.request(method, path)
    assert answer.status_code == (200 if method == "HEAD" else 204)
    assert answer.content == b""
    if method == "OPTIONS":
        assert {"GET", "HEAD", "OPTIONS"} <= set(answer.headers["allow"].split(", "))


def test_a_wrong_method_is_refused_with_the_allowed_ones(filled_server: Server) -> None:
    answer = filled_server.http.put("/api/images")
    assert (answer.status_code, answer.headers["allow"]) == (405, "GET, HEAD, OPTIONS, POST")
    assert answer.headers["content-type"] == "application/problem+json"
    assert "use GET, HEAD, OPTIONS, POST" in answer.json()["detail"]


def test_a_post_to_an_unknown_path_is_a_404(filled_server: Server) -> None:
    assert filled_server.http.post("/api/search/nothing").status_code == 404


def test_browsers_get_errors_as_a_page_in_their_language(filled_server: Server) -> None:
    for language, title in (("en", "Page not found"), ("de", "Seite nicht gefunden")):
        answer = filled_server.http.get("/nothing", headers={"Accept": "text/html,*/*", "Accept-Language": language})
        assert (answer.status_code, answer.headers["content-type"]) == (404, "text/html; charset=utf-8")
        assert f'<h1 class="empty-title">{title}</h1>' in answer.text
    for path, accepted in (("/nothing", "*/*"), ("/api/images/0?bucket=b", "text/html")):
        answer = filled_server.http.get(path, headers={"Accept": accepted})
        assert answer.headers["content-type"] == "application/problem+json"
