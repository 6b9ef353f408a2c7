"""The OpenAPI document describes the API as it is."""

import asyncio
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from server.app import create_app
from server.schemas import openapi
from server.settings import ServerSettings
from shared.stores.folder import FolderStore
from tests.helpers.filled_collections import fill_database, unit_vectors
from tests.helpers.processes import Server, serving
from tests.server.conftest import Environment, log_of

TOKEN = "a-token-to-write-with"


def test_every_operation_of_the_api_is_described_under_a_name_of_its_own() -> None:
    routes = create_app(ServerSettings()).routes
    described = openapi.document(routes)["paths"]
    served = {
        (route.path, method.lower())
        for route in routes
        if route.path.startswith("/api/")
        for method in route.methods - {"HEAD"}
    }
    missing = [f"{method} {path}" for path, method in served if method not in described.get(path, {})]
    assert missing == []
    operations = [operation for methods in described.values() for operation in methods.values()]
    assert all(operation["summary"] for operation in operations)
    assert len({operation["operationId"] for operation in operations}) == len(operations)


@pytest.fixture(scope="module")
def writable_server(module_environment: Environment) -> Iterator[Server]:
    """A server with forty images that accepts writes."""
    asyncio.run(fill_database(module_environment["DATABASE_URL"], "b", "offline-v1", unit_vectors(40, 384, seed=1)))
    buckets = Path(module_environment["IMAGE_BROWSER_HOME"], "buckets")
    asyncio.run(FolderStore(buckets, "b", threads=1).prepare())
    with serving(module_environment | {"API_TOKEN": TOKEN}, log_of(module_environment)) as running:
        yield running


@pytest.mark.xdist_group("schema")
def test_schemathesis_finds_no_deviation(writable_server: Server, tmp_path: Path) -> None:
    command = [
        *(Path(sys.executable).with_name("schemathesis"), "run", f"{writable_server.url}/openapi.json"),
        *("--header", f"Authorization: Bearer {TOKEN}"),
        *("--phases", "examples,coverage,fuzzing", "--max-examples", "8", "--seed", "1"),
        # The first query loads the model.
        *("--request-timeout", "60"),
        # An event stream never ends.
        *("--exclude-operation-id", "stream_stats"),
        # A schema cannot describe our cursors, nor which URLs can be fetched.
        *("--exclude-checks", "positive_data_acceptance"),
    ]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=280)
    assert done.returncode == 0, done.stdout
