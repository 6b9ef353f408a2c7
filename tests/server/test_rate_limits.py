"""Budgets of paid model calls, and searches while the model is unavailable."""

import asyncio
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx2
import psycopg
import pytest

from server.rate_limits import client_of
from tests.fakes.replicate import DIMENSIONS, FakeReplicate
from tests.helpers.filled_collections import fill_database, unit_vectors
from tests.helpers.processes import Server, serving

pytestmark = pytest.mark.xdist_group("limits")  # one worker makes the collection for all


@pytest.fixture(scope="module")
def replicate() -> Iterator[FakeReplicate]:
    with FakeReplicate.serving() as fake:
        yield fake


@pytest.fixture(scope="module")
def filled_environment(module_environment: dict[str, str], replicate: FakeReplicate) -> dict[str, str]:
    """The environment of servers on a collection of three images that Replicate embedded."""
    vectors = unit_vectors(3, DIMENSIONS, seed=1)
    asyncio.run(fill_database(module_environment["DATABASE_URL"], "b", "replicate:openai/clip", vectors))
    return module_environment | {
        "REPLICATE_API_TOKEN": replicate.settings.token,
        "REPLICATE_BASE_URL": replicate.url,
    }


@pytest.fixture
def environment(filled_environment: dict[str, str]) -> dict[str, str]:
    """The same environment with full budgets."""
    with psycopg.connect(filled_environment["DATABASE_URL"]) as conn:
        conn.execute("DELETE FROM rate_limits")
    return filled_environment


def search(server: Server, text: str, client: str = "203.0.113.1") -> httpx2.Response:
    return server.http.get("/api/search", params={"q": text}, headers={"X-Forwarded-For": client})


def test_new_texts_are_limited_per_client_and_in_total_and_known_texts_are_not(
    environment: dict[str, str], tmp_path: Path
) -> None:
    limits = {"PAID_QUERIES_PER_HOUR_AND_CLIENT": "3", "PAID_QUERIES_PER_HOUR": "5"}
    with serving(environment | limits, tmp_path / "log") as server:
        one, other, third = "203.0.113.1", "203.0.113.2", "2001:db8::1"
        assert [search(server, f"text {n}", one).status_code for n in range(4)] == [200, 200, 200, 429]
        # Only the last address of X-Forwarded-For counts: the client can forge the others.
        assert search(server, "text 4", f"198.51.100.9, {one}").status_code == 429
        refused = search(server, "text 5", one)
        assert refused.headers["content-type"] == "application/problem+json"
        assert 0 < int(refused.headers["retry-after"]) <= 1200
        assert "3 new texts or pictures an hour" in refused.json()["detail"]
        # The first search for this text has stored its vector.
        assert search(server, "TEXT  0", one).status_code == 200
        image = server.get("/api/images")["images"][0]
        assert len(server.get(f"/api/images/{image['id']}/similar")["images"]) == 2

        assert search(server, "text 6", other).status_code == 200
        assert search(server, "text 7", third).status_code == 200
        # A refusal takes nothing from the total budget, which is now empty.
        everyone = search(server, "text 8", "203.0.113.3")
        assert everyone.status_code == 429
        assert "all users of this server" in everyone.json()["detail"]
    # Other servers, and restarted ones, share the budget.
    with serving(environment | limits, tmp_path / "log2") as server:
        assert search(server, "text 9", "203.0.113.4").status_code == 429
        assert search(server, "text 2", "203.0.113.4").status_code == 200


def test_the_addresses_of_one_ipv6_network_are_one_client() -> None:
    one, same, other = (
        client_of({"client": (host, 1)}) for host in ("2001:db8:1::1", "2001:db8:1::99", "2001:db8:2::1")
    )
    assert one == same != other


def test_an_ipv4_client_is_the_same_on_a_socket_for_both_protocols() -> None:
    mapped, other = (client_of({"client": (f"::ffff:203.0.113.{n}", 1)}) for n in (1, 2))
    assert mapped == client_of({"client": ("203.0.113.1", 1)}) != other


def test_while_the_model_is_unavailable_only_new_texts_get_a_503(
    environment: dict[str, str], replicate: FakeReplicate, tmp_path: Path
) -> None:
    with serving(environment, tmp_path / "log") as server, ThreadPoolExecutor(1) as pool:
        assert search(server, "seen before").status_code == 200
        for fault in ("503", "hang", "401"):
            replicate.settings.faults = {fault: 1.0}
            try:
                waiting = pool.submit(search, server, f"new while {fault}")
                image: dict[str, Any] = server.get("/api/images")["images"][0]
                assert server.get(f"/api/images/{image['id']}/similar")["images"]
                assert search(server, "seen before").status_code == 200
                unavailable = waiting.result()
            finally:
                replicate.settings.faults = {}
            assert unavailable.status_code == 503, fault
            assert int(unavailable.headers["retry-after"]) >= 1
            assert unavailable.headers["content-type"] == "application/problem+json"
            assert search(server, f"new after {fault}").status_code == 200
