"""Servers that several test files share; tests only read from them.

A test that uses one belongs to its xdist group, so that one worker starts it once.
"""

import asyncio
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

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

Environment = dict[str, str]
NewEnvironment = Callable[[], AbstractContextManager[Environment]]


@pytest.fixture(scope="session")
def new_environment(
    postgres: str, template: str, shared_folder: Path, tmp_path_factory: pytest.TempPathFactory
) -> NewEnvironment:
    """A function that opens an environment for commands, with a database and a home of its own."""

    @contextmanager
    def opened() -> Iterator[Environment]:
        home = make_home(tmp_path_factory.mktemp("environment") / "home", shared_folder)
        with new_database(postgres, template) as database_url:
            yield make_environment(home, database_url)

    return opened


def log_of(environment: Environment) -> Path:
    return Path(environment["IMAGE_BROWSER_HOME"]).with_name("server.log")


def sync(environment: Environment, folder: Path, bucket: str = "b") -> None:
    done = Syncer(environment)("sync", folder, "--bucket", bucket)
    assert done.status == 0, done.stderr


@pytest.fixture(scope="session")
def filled_server(new_environment: NewEnvironment, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A server whose collection ``b`` has 23 embedded pictures; xdist group "filled"."""
    folder = tmp_path_factory.mktemp("filled")
    make_pictures(folder, 23)
    with new_environment() as environment:
        sync(environment, folder)
        with serving(environment, log_of(environment)) as running:
            yield running


@pytest.fixture(scope="session")
def observed_log(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The log of ``observed_server``."""
    return tmp_path_factory.mktemp("observed") / "server.log"


@pytest.fixture(scope="session")
def observed_server(new_environment: NewEnvironment, observed_log: Path) -> Iterator[Server]:
    """A server with two worker processes and five images in ``b``; xdist group "observed"."""
    with new_environment() as environment:
        asyncio.run(fill_database(environment["DATABASE_URL"], "b", "offline-v1", unit_vectors(5, 384, seed=1)))
        with serving(environment | {"WORKERS": "2"}, observed_log) as running:
            running.http.timeout = 120  # each process loads the model at its first query
            yield running


@dataclass
class TwoCollections:
    """The environment of two collections, ``mine`` and ``yours``, with three embedded pictures each."""

    environment: Environment

    def serving(self, name: str, **environment: str) -> AbstractContextManager[Server]:
        return serving(self.environment | environment, log_of(self.environment).with_name(f"{name}.log"))


@pytest.fixture(scope="session")
def two_collections(
    new_environment: NewEnvironment, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[TwoCollections]:
    """Two collections for servers with tokens; xdist group "access"."""
    folder = tmp_path_factory.mktemp("access")
    with new_environment() as environment:
        for first, bucket in ((0, "mine"), (3, "yours")):
            make_pictures(folder / bucket, 3, first=first)
            sync(environment, folder / bucket, bucket)
        yield TwoCollections(environment)


@pytest.fixture(scope="session")
def guarded_server(two_collections: TwoCollections) -> Iterator[Server]:
    """A server of the two collections that requires tokens; xdist group "access"."""
    with two_collections.serving("guarded", **TOKENS, BUCKET="yours", ALLOWED_HOSTS="*") as running:
        yield running


@pytest.fixture(scope="module")
def module_environment(new_environment: NewEnvironment) -> Iterator[Environment]:
    """The environment of the module's commands, with a database and a home of their own."""
    with new_environment() as environment:
        yield environment


@pytest.fixture(scope="module")
def serve_folder(module_environment: Environment) -> Iterator[Callable[[Path], Server]]:
    """A function that syncs a folder into the collection ``b`` and returns a server, which runs for the module."""
    with ExitStack() as stack:

        def serve(folder: Path) -> Server:
            sync(module_environment, folder)
            return stack.enter_context(serving(module_environment, log_of(module_environment)))

        yield serve


@pytest.fixture(scope="session")
def photo_environment(new_environment: NewEnvironment) -> Iterator[Environment]:
    """The environment of ``photo_server``."""
    with new_environment() as environment:
        yield environment


@pytest.fixture(scope="session")
def photo_server(photo_environment: Environment, photos: Path) -> Iterator[Server]:
    """A server whose collection ``b`` holds the sample photos; xdist group "photo_server"."""
    sync(photo_environment, photos)
    with serving(photo_environment, log_of(photo_environment)) as running:
        yield running


@pytest.fixture(scope="session")
def photo_ids(photo_server: Server) -> dict[str, int]:
    """The ids of the sample photos by their names."""
    images = photo_server.get("/api/images", bucket="b", limit=200)["images"]
    return {Path(image["key"]).stem: image["id"] for image in images}
