"""Metrics of a server with two processes."""

import re
from concurrent.futures import ThreadPoolExecutor

import httpx2
import pytest

from tests.helpers.processes import Server

pytestmark = pytest.mark.xdist_group("observed")


def metric(server: Server, name: str, **labels: str) -> float:
    """Return a value of /metrics, summed over the labels that are not given; 0 if there is none."""
    total = 0.0
    for line in server.http.get("/metrics").text.splitlines():
        if match := re.fullmatch(name + r"(?:\{(.*)\})? (\S+)", line):
            found = dict(re.findall(r'(\w+)="([^"]*)"', match[1] or ""))
            if labels.items() <= found.items():
                total += float(match[2])
    return total


def test_each_process_reports_the_sum_of_all(observed_server: Server) -> None:
    labels = {"route": "/api/images/{id}", "method": "GET"}
    before = metric(observed_server, "image_browser_http_requests_total", **labels)

    def get(number: int) -> int:
        # A new connection for each request, so that both processes get some.
        return httpx2.get(f"{observed_server.url}/api/images/{number + 1}").status_code

    with ThreadPoolExecutor(8) as pool:
        statuses = list(pool.map(get, range(40)))
    assert statuses == [200] * 5 + [404] * 35
    for _ in range(5):
        assert metric(observed_server, "image_browser_http_requests_total", **labels) == before + 40
    assert metric(observed_server, "image_browser_http_requests_total", **labels, status="404") >= 35
    assert metric(observed_server, "image_browser_http_request_seconds_count", **labels) == before + 40


def test_metrics_cover_images_caches_model_and_connections(observed_server: Server) -> None:
    def cached_vectors() -> float:
        return sum(
            metric(observed_server, "image_browser_query_vectors_total", found_in=place)
            for place in ("memory", "database")
        )

    assert metric(observed_server, "image_browser_images", bucket="b", state="embedded") == 5
    calls = metric(observed_server, "image_browser_model_calls_total", outcome="answered")
    assert observed_server.http.get("/api/search?q=one+more+text").status_code == 200
    assert metric(observed_server, "image_browser_model_calls_total", outcome="answered") == calls + 1
    cached = cached_vectors()
    assert observed_server.http.get("/api/search?q=one+more+text").status_code == 200
    assert cached_vectors() == cached + 1
    assert metric(observed_server, "image_browser_pool_connections", database="primary") >= 1


def test_methods_and_paths_that_clients_invent_do_not_become_labels(observed_server: Server) -> None:
    observed_server.http.request("PROPFIND", "/made/up")
    assert metric(observed_server, "image_browser_http_requests_total", method="other", route="unknown") >= 1
    assert "made" not in observed_server.http.get("/metrics").text
