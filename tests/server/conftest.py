"""Servers that several test files share; tests only read from them.

A test that uses one belongs to its xdist group, so that one worker starts it once.
"""

import asyncio
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.helpers.filled_collections import fill_database, unit_vectors
from tests.helpers.pictures import make_pictures
from tests.helpers.processes import Server, Syncer, make_environment, make_home, new_database, serving

READ_TOKEN, TOKEN_OF_MINE, TOKEN_OF_YOURS = "read-token-of-all", "read-token-of-mine", "read-token-of-yours"
API_TOKEN = "api-token-of-tests"
TOKENS = {
    "READ_TOKEN": READ_TOKEN,
    "READ_TOKENS": f"mine={TOKEN_OF_MINE}, yours={TOKEN_OF_YOURS}",
    "API_TOKEN": API_TOKEN,
}


@pytest.fixture(scope="session")
def filled_server(
    postgres: str, template: str, shared_folder: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Server]:
    """A server whose collection ``b`` has 23 embedded pictures; xdist group "filled"."""
    folder = tmp_path_factory.mktemp("filled")
    make_pictures(folder / "pictures", 23)
    with new_database(postgres, template) as database_url:
        environment = make_environment(make_home(folder / "home", shared_folder), database_url)
        assert Syncer(environment)("sync", folder / "pictures", "--bucket", "b").status == 0
        with serving(environment, folder / "server.log") as running:
            yield running


@pytest.fixture(scope="session")
def observed_log(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The log of ``observed_server``."""
    return tmp_path_factory.mktemp("observed") / "server.log"


@pytest.fixture(scope="session")
def observed_server(postgres: str, template: str, shared_folder: Path, observed_log: Path) -> Iterator[Server]:
    """A server with two worker processes and five images in ``b``; xdist group "observed"."""
    with new_database(postgres, template) as database_url:
        asyncio.run(fill_database(database_url, "b", "offline-v1", unit_vectors(5, 384, seed=1)))
        environment = make_environment(make_home(observed_log.parent / "home", shared_folder), database_url)
        with serving(environment | {"WORKERS": "2"}, observed_log) as running:
            running.http.timeout = 120  # each process loads the model at its first query
            yield running


@dataclass
class TwoCollections:
    """The environment of two collections, ``mine`` and ``yours``, with three embedded pictures each."""

    environment: dict[str, str]
    folder: Path

    def serving(self, name: str, **environment: str) -> Any:
        return serving(self.environment | environment, self.folder / f"{name}.log")


@pytest.fixture(scope="session")
def two_collections(
    postgres: str, template: str, shared_folder: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[TwoCollections]:
    """Two collections for servers with tokens; xdist group "access"."""
    folder = tmp_path_factory.mktemp("access")
    with new_database(postgres, template) as database_url:
        environment = make_environment(make_home(folder / "home", shared_folder), database_url)
        for first, bucket in ((0, "mine"), (3, "yours")):
            make_pictures(folder / bucket, 3, first=first)
            assert Syncer(environment)("sync", folder / bucket, "--bucket", bucket).status == 0
        yield TwoCollections(environment, folder)


@pytest.fixture(scope="session")
def guarded_server(two_collections: TwoCollections) -> Iterator[Server]:
    """A server of the two collections that requires tokens; xdist group "access"."""
    with two_collections.serving("guarded", **TOKENS, BUCKET="yours") as running:
        yield running


@pytest.fixture(scope="module")
def module_environment(
    postgres: str, template: str, shared_folder: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[dict[str, str]]:
    """The environment of the module's commands, with a database and a home of their own."""
    home = make_home(tmp_path_factory.mktemp("module") / "home", shared_folder)
    with new_database(postgres, template) as database_url:
        yield make_environment(home, database_url)


@pytest.fixture(scope="module")
def serve_folder(
    module_environment: dict[str, str], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Callable[[Path], Server]]:
    """A function that syncs a folder into the collection ``b`` and returns a server, which runs for the module."""
    with ExitStack() as stack:

        def serve(folder: Path) -> Server:
            done = Syncer(module_environment)("sync", folder, "--bucket", "b")
            assert done.status == 0, done.stderr
            return stack.enter_context(serving(module_environment, tmp_path_factory.mktemp("log") / "server.log"))

        yield serve


@pytest.fixture(scope="session")
def photo_environment(
    postgres: str, template: str, shared_folder: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[dict[str, str]]:
    """The environment of ``photo_server``."""
    home = make_home(tmp_path_factory.mktemp("photos") / "home", shared_folder)
    with new_database(postgres, template) as database_url:
        yield make_environment(home, database_url)


@pytest.fixture(scope="session")
def photo_server(
    photo_environment: dict[str, str], photos: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Server]:
    """A server whose collection ``b`` holds the sample photos; xdist group "photo_server"."""
    done = Syncer(photo_environment)("sync", photos, "--bucket", "b")
    assert done.status == 0, done.stderr
    with serving(photo_environment, tmp_path_factory.mktemp("log") / "server.log") as running:
        yield running


@pytest.fixture(scope="session")
def photo_ids(photo_server: Server) -> dict[str, int]:
    """The ids of the sample photos by their names."""
    images = photo_server.get("/api/images", bucket="b", limit=200)["images"]
    return {Path(image["key"]).stem: image["id"] for image in images}
