"""DNS rebinding: a page whose name resolves to this machine."""

from pathlib import Path

from tests.helpers.processes import Server, serving


def get(server: Server, path: str, host: str) -> int:
    return server.http.get(path, headers={"Host": host}).status_code


def test_a_page_that_rebinds_its_name_cannot_read_a_local_gallery(environment: dict[str, str], tmp_path: Path) -> None:
    with serving(environment, tmp_path / "log") as server:
        for path in ("/", "/api/images", "/files/b/a.jpg", "/metrics", "/docs", "/static/x/js/app.js"):
            answer = server.http.get(path, headers={"Host": "evil.example:8000"})
            assert answer.status_code == 421, path
            assert "add its name to ALLOWED_HOSTS" in answer.json()["detail"]
        assert server.http.post("/api/query-images", content=b"x", headers={"Host": "evil.example"}).status_code == 421
        assert get(server, "/healthz", "evil.example") == 200
        assert get(server, "/api/collections", "localhost") == 200


def test_each_worker_answers_to_the_allowed_names(environment: dict[str, str], tmp_path: Path) -> None:
    names = {"ALLOWED_HOSTS": "photos.example.org", "WORKERS": "2"}
    with serving(environment | names, tmp_path / "log") as server:
        for _ in range(8):
            assert get(server, "/api/collections", "photos.example.org") == 200
            assert get(server, "/api/collections", "127.0.0.1") == 421
