"""The command ``server``: the addresses it listens on."""

from pathlib import Path

import httpx2
import pytest

from tests.helpers.processes import serving


@pytest.mark.parametrize("workers", ["1", "2"])
def test_the_host_of_all_ipv6_addresses_is_announced_and_also_answers_ipv4(
    environment: dict[str, str], tmp_path: Path, workers: str
) -> None:
    with serving(environment | {"HOST": "::", "WORKERS": workers}, tmp_path / "log") as server:
        assert server.get("/healthz") == {"status": "ok"}
        assert f"Image Browser serves on http://[::]:{server.url.rpartition(':')[2]}" in (tmp_path / "log").read_text()
        address = server.url.replace("127.0.0.1", "[::1]")
        assert httpx2.get(f"{address}/healthz").status_code == 200
