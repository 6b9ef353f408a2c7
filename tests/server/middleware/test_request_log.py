"""Request ids, log lines and timings, over real HTTP."""

import json
import re
import time
from pathlib import Path
from typing import Any

import pytest

from tests.helpers.processes import Server

pytestmark = pytest.mark.xdist_group("observed")


def line_of(log: Path, identifier: str) -> dict[str, Any]:
    """Return the log line of a request, which is written after its response."""
    deadline = time.monotonic() + 20
    while time.monotonic() < deadline:
        for text in log.read_text().splitlines():
            line: dict[str, Any] = json.loads(text) if text.startswith("{") else {}
            if line.get("request_id") == identifier:
                return line
        time.sleep(0.05)
    raise TimeoutError(identifier)


@pytest.mark.parametrize("given", ["abc-123", "a" * 64])
def test_a_request_keeps_the_id_that_a_proxy_gave_it(observed_server: Server, observed_log: Path, given: str) -> None:
    answer = observed_server.http.get("/api/images?limit=0", headers={"X-Request-Id": given})
    assert answer.headers["x-request-id"] == given
    assert answer.json()["request_id"] == given
    line = line_of(observed_log, given)
    assert (line["method"], line["route"], line["status"]) == ("GET", "/api/images", 400)
    assert line["milliseconds"] >= 0


@pytest.mark.parametrize("given", ["", "a" * 65, "a b", "a;b", '{"a":1}'])
def test_a_request_without_a_valid_id_gets_a_new_one(observed_server: Server, given: str) -> None:
    answers = [observed_server.http.get("/healthz", headers={"X-Request-Id": given}) for _ in range(2)]
    ids = {answer.headers["x-request-id"] for answer in answers}
    assert len(ids) == 2
    assert all(re.fullmatch("[0-9a-f]{16}", each) for each in ids)


def test_the_log_contains_neither_search_texts_nor_tokens(observed_server: Server, observed_log: Path) -> None:
    secret = "unmistakable-words"
    headers = {"Authorization": f"Bearer {secret}"}
    assert observed_server.http.get(f"/api/search?q={secret}", headers=headers).status_code == 200
    missing = observed_server.http.get(f"/{secret}")
    assert missing.status_code == 404
    assert line_of(observed_log, missing.headers["x-request-id"])["route"] == "unknown"
    assert secret not in observed_log.read_text()


def test_the_server_timing_header_splits_the_time_of_a_response(observed_server: Server) -> None:
    timing = observed_server.http.get("/api/images").headers["server-timing"]
    assert re.fullmatch(r"db;dur=\d+\.\d, total;dur=\d+\.\d", timing)
    answer = observed_server.http.get("/api/search?q=words+never+seen+before")
    assert "model;dur=" in answer.headers["server-timing"]
