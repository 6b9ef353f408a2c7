"""What the server tells of itself: request ids, timings, figures, its log, the page of its API."""

import asyncio
import json
import re
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx2
import pytest
from markupsafe import escape

from tests.helpers.filled_collections import fill_database, unit_vectors
from tests.helpers.processes import Server, make_environment, make_home, new_database, serving

pytestmark = pytest.mark.xdist_group("observing")  # one worker serves for all


@pytest.fixture(scope="module")
def log(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("observed") / "server.log"


@pytest.fixture(scope="module")
def served(postgres: str, template: str, shared_folder: Path, log: Path) -> Iterator[Server]:
    """A server of two processes with five images."""
    with new_database(postgres, template) as database_url:
        asyncio.run(fill_database(database_url, "b", "offline-v1", unit_vectors(5, 384, seed=1)))
        environment = make_environment(make_home(log.parent / "home", shared_folder), database_url)
        with serving(environment | {"WORKERS": "2"}, log) as running:
            running.http.timeout = 120  # each process loads the model when it is first asked
            yield running


def lines(log: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in log.read_text().splitlines() if line.startswith("{")]


def line_of(log: Path, identifier: str) -> dict[str, Any]:
    """Return the line of a request, which is written when its answer is on its way."""
    deadline = time.monotonic() + 20
    while time.monotonic() < deadline:
        for line in lines(log):
            if line.get("request_id") == identifier:
                return line
        time.sleep(0.05)
    raise TimeoutError(identifier)


@pytest.mark.parametrize("given", ["abc-123", "a" * 64])
def test_a_request_keeps_the_id_that_a_proxy_gave_it(served: Server, log: Path, given: str) -> None:
    answer = served.http.get("/api/images?limit=0", headers={"X-Request-Id": given})
    assert answer.headers["x-request-id"] == given
    assert answer.json()["request_id"] == given
    line = line_of(log, given)
    assert (line["method"], line["route"], line["status"]) == ("GET", "/api/images", 400)
    assert line["milliseconds"] >= 0


@pytest.mark.parametrize("given", ["", "a" * 65, "a b", "a;b", '{"a":1}'])
def test_a_request_without_a_sane_id_gets_one(served: Server, given: str) -> None:
    answers = [served.http.get("/healthz", headers={"X-Request-Id": given}) for _ in range(2)]
    ids = {answer.headers["x-request-id"] for answer in answers}
    assert len(ids) == 2
    assert all(re.fullmatch("[0-9a-f]{16}", each) for each in ids)


def test_the_log_holds_neither_what_was_searched_for_nor_a_token(served: Server, log: Path) -> None:
    secret = "unmistakable-words"
    assert served.http.get(f"/api/search?q={secret}", headers={"Authorization": f"Bearer {secret}"}).status_code == 200
    missing = served.http.get(f"/{secret}")
    assert missing.status_code == 404
    assert line_of(log, missing.headers["x-request-id"])["route"] == "unknown"
    assert secret not in log.read_text()


def test_an_answer_tells_what_its_time_was_spent_on(served: Server) -> None:
    timing = served.http.get("/api/images").headers["server-timing"]
    assert re.fullmatch(r"db;dur=\d+\.\d, total;dur=\d+\.\d", timing)
    assert "model;dur=" in served.http.get("/api/search?q=words+never+seen+before").headers["server-timing"]


def figure(server: Server, name: str, **labels: str) -> float:
    """Return a figure of /metrics, summed over the labels that are not given; 0 where there is none."""
    found = 0.0
    for line in server.http.get("/metrics").text.splitlines():
        if match := re.fullmatch(name + r"(?:\{(.*)\})? (\S+)", line):
            known = dict(re.findall(r'(\w+)="([^"]*)"', match[1] or ""))
            if labels.items() <= known.items():
                found += float(match[2])
    return found


def test_whichever_process_is_asked_tells_the_figures_of_all(served: Server) -> None:
    labels = {"route": "/api/images/{id}", "method": "GET"}
    before = figure(served, "image_browser_http_requests_total", **labels)

    def ask(number: int) -> int:
        # A connection of its own for each, which either process may take.
        return httpx2.get(f"{served.url}/api/images/{number + 1}").status_code

    with ThreadPoolExecutor(8) as pool:
        statuses = list(pool.map(ask, range(40)))
    assert statuses == [200] * 5 + [404] * 35
    for _ in range(5):
        assert figure(served, "image_browser_http_requests_total", **labels) == before + 40
    assert figure(served, "image_browser_http_requests_total", **labels, status="404") >= 35
    assert figure(served, "image_browser_http_request_seconds_count", **labels) == before + 40


def test_the_figures_tell_of_images_caches_model_and_pool(served: Server) -> None:
    assert figure(served, "image_browser_images", bucket="b", state="embedded") == 5
    calls = figure(served, "image_browser_model_calls_total", outcome="answered")
    assert served.http.get("/api/search?q=one+more+text").status_code == 200
    assert figure(served, "image_browser_model_calls_total", outcome="answered") == calls + 1
    known = figure(served, "image_browser_query_vectors_total", found_in="memory")
    known += figure(served, "image_browser_query_vectors_total", found_in="database")
    assert served.http.get("/api/search?q=one+more+text").status_code == 200
    again = figure(served, "image_browser_query_vectors_total", found_in="memory")
    again += figure(served, "image_browser_query_vectors_total", found_in="database")
    assert again == known + 1
    assert figure(served, "image_browser_pool_connections", database="primary") >= 1
    # What strangers make up does not become a label.
    served.http.request("PROPFIND", "/made/up")
    assert figure(served, "image_browser_http_requests_total", method="other", route="unknown") >= 1
    assert "made" not in served.http.get("/metrics").text


def test_the_page_of_the_api_needs_nothing_from_elsewhere(served: Server) -> None:
    page = served.http.get("/docs").text
    document = served.get("/openapi.json")
    assert document["openapi"] == "3.1.0"
    for path, operations in document["paths"].items():
        assert f'<code class="path">{path}</code>' in page
        assert all(str(escape(about["summary"])) in page for about in operations.values())
    assert not re.findall(r'(?:src|href)="(?:https?:)?//', page)
    assert "<script>" not in page
    assert " style=" not in page
    assert re.search(r" on\w+=", page) is None
