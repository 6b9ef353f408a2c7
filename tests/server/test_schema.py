"""The API keeps what its description promises, whatever it is asked: found out by Schemathesis."""

import asyncio
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from shared.stores.folder import FolderStore
from tests.helpers.filled_collections import fill_database, unit_vectors
from tests.helpers.processes import Server, make_environment, make_home, new_database, serving

pytestmark = pytest.mark.xdist_group("schema")  # one worker serves for all

TOKEN = "a-token-to-write-with"


@pytest.fixture(scope="module")
def served(
    postgres: str, template: str, shared_folder: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Server]:
    """A server with forty images, to which may be written."""
    folder = tmp_path_factory.mktemp("schema")
    with new_database(postgres, template) as database_url:
        asyncio.run(fill_database(database_url, "b", "offline-v1", unit_vectors(40, 384, seed=1)))
        home = make_home(folder / "home", shared_folder)
        asyncio.run(FolderStore(home / "buckets", "b", threads=1).prepare())
        environment = make_environment(home, database_url) | {"API_TOKEN": TOKEN}
        with serving(environment, folder / "server.log") as running:
            yield running


def test_schemathesis_finds_nothing(served: Server, tmp_path: Path) -> None:
    command = [
        *(Path(sys.executable).with_name("schemathesis"), "run", f"{served.url}/openapi.json"),
        *("--header", f"Authorization: Bearer {TOKEN}"),
        *("--phases", "examples,coverage,fuzzing", "--max-examples", "8", "--seed", "1"),
        # The model loads meanwhile.
        *("--request-timeout", "60"),
        # A stream of events has no end to wait for.
        *("--exclude-operation-id", "stream_stats"),
        # No schema can say what a cursor of ours is, nor which of the web's addresses answer.
        *("--exclude-checks", "positive_data_acceptance"),
    ]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=280)
    assert done.returncode == 0, done.stdout


@pytest.mark.parametrize("method", ["HEAD", "OPTIONS"])
@pytest.mark.parametrize("path", ["/", "/api/images", "/api/search?q=x", "/api/stats/stream", "/healthz", "/docs"])
def test_every_path_answers_to_head_and_options(served: Server, method: str, path: str) -> None:
    answer = served.http.request(method, path)
    assert answer.status_code == (200 if method == "HEAD" else 204)
    assert answer.content == b""
    if method == "OPTIONS":
        assert {"GET", "HEAD", "OPTIONS"} <= set(answer.headers["allow"].split(", "))


def test_another_method_is_told_which_there_are(served: Server) -> None:
    answer = served.http.put("/api/images")
    assert (answer.status_code, answer.headers["allow"]) == (405, "GET, HEAD, OPTIONS, POST")
    assert answer.headers["content-type"] == "application/problem+json"
    assert "use GET, HEAD, OPTIONS, POST" in answer.json()["detail"]
