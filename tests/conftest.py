"""What all tests share: a real PostgreSQL, a database of its own for each test, the sample photos, the commands."""

import asyncio
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from uuid import uuid4

import httpx2
import psycopg
import pytest
import pytest_asyncio
from psycopg import sql

from shared.db import embedded, migrate
from shared.db.pool import Database
from shared.samples import sample_photos

# What a test's outcome must not depend on.
_OURS = ("AWS_", "R2_", "S3_", "REPLICATE_", "DATABASE_", "IMAGE_BROWSER_", "EMBEDDER", "BUCKET", "API_", "READ_")
# Checks outside of test files tell what they saw, too.
pytest.register_assert_rewrite("tests.syncer.folders")

CLEAN_ENVIRONMENT = {name: value for name, value in os.environ.items() if not name.startswith(_OURS)} | {
    "AWS_EC2_METADATA_DISABLED": "true",
    "PYTHONWARNINGS": "default",
}


@pytest.fixture(scope="session")
def shared_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder that all workers of this run share."""
    folder = tmp_path_factory.getbasetemp()
    return folder.parent if "PYTEST_XDIST_WORKER" in os.environ else folder


@pytest.fixture(scope="session")
def postgres(shared_folder: Path) -> Iterator[str]:
    """The address of a real PostgreSQL with pgvector, one for all workers, gone when the last of them ends."""
    # What is lost with the machine's power is of no interest here, and syncing takes most of the time.
    unsafe = {"fsync": "off", "synchronous_commit": "off", "full_page_writes": "off"}
    server = asyncio.run(embedded.start(shared_folder / "postgres", settings=unsafe))
    yield server.url
    asyncio.run(server.release())


@pytest.fixture(scope="session")
def template(postgres: str) -> str:
    """The name of a migrated database that tests are cloned from."""
    name = f"template_{uuid4().hex[:12]}"
    with psycopg.connect(postgres, autocommit=True) as conn:
        conn.execute(sql.SQL("CREATE DATABASE {}").format(sql.Identifier(name)))

    async def prepare() -> None:
        async with await psycopg.AsyncConnection.connect(postgres, dbname=name) as conn:
            await migrate.migrate(conn)

    asyncio.run(prepare())
    return name


@contextmanager
def new_database(postgres: str, template: str) -> Iterator[str]:
    """The address of a new database, migrated, until the block ends."""
    name = f"test_{uuid4().hex[:12]}"
    with psycopg.connect(postgres, autocommit=True) as conn:
        conn.execute(sql.SQL("CREATE DATABASE {} TEMPLATE {}").format(sql.Identifier(name), sql.Identifier(template)))
        yield postgres.replace("/image_browser?", f"/{name}?")
        conn.execute(sql.SQL("DROP DATABASE {} WITH (FORCE)").format(sql.Identifier(name)))


@pytest.fixture
def database_url(postgres: str, template: str) -> Iterator[str]:
    """The address of a database of this test's own."""
    with new_database(postgres, template) as url:
        yield url


@pytest_asyncio.fixture
async def database(database_url: str) -> AsyncIterator[Database]:
    """This test's database, opened."""
    opened = Database(database_url, max_connections=5, patience=5)
    await opened.open()
    yield opened
    await opened.close()


@pytest.fixture(scope="session")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the real sample photos."""
    folder = tmp_path_factory.mktemp("photos")
    sample_photos(folder)
    return folder


@dataclass
class Command:
    """What a command did."""

    status: int
    stdout: str
    stderr: str

    @property
    def json(self) -> Any:
        return json.loads(self.stdout)


@dataclass
class Syncer:
    """The command ``syncer``, as users run it, with a database and a home of this test's own."""

    environment: dict[str, str]

    def __call__(self, *arguments: str | Path, timeout: float = 120, **environment: str) -> Command:
        """Run it to its end."""
        with self.start(*arguments, **environment) as process:
            try:
                stdout, stderr = process.communicate(timeout=timeout)
            except subprocess.TimeoutExpired:
                os.killpg(process.pid, signal.SIGKILL)
                raise
        return Command(process.returncode, stdout, stderr)

    def start(self, *arguments: str | Path, **environment: str) -> "subprocess.Popen[str]":
        """Start it, in a process group of its own."""
        return subprocess.Popen(
            [sys.executable, "-m", "syncer", *map(str, arguments)],
            env=self.environment | environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )


def make_home(folder: Path, shared_folder: Path) -> Path:
    """Make an IMAGE_BROWSER_HOME; the offline model is built once for all of them."""
    folder.mkdir()
    models = shared_folder / "models"
    models.mkdir(exist_ok=True)
    (folder / "models").symlink_to(models)
    return folder


def make_environment(home: Path, database_url: str) -> dict[str, str]:
    """Return the environment of a command that works with these."""
    own = {"DATABASE_URL": database_url, "IMAGE_BROWSER_HOME": str(home), "EMBEDDER": "offline"}
    return CLEAN_ENVIRONMENT | own


@pytest.fixture
def home(tmp_path: Path, shared_folder: Path) -> Path:
    """An IMAGE_BROWSER_HOME of this test's own."""
    return make_home(tmp_path / "home", shared_folder)


@pytest.fixture
def environment(home: Path, database_url: str) -> dict[str, str]:
    """The environment of a command of this test."""
    return make_environment(home, database_url)


@pytest.fixture
def syncer(environment: dict[str, str]) -> Syncer:
    """The command ``syncer``."""
    return Syncer(environment)


@dataclass
class Server:
    """A running ``server``."""

    url: str
    process: "subprocess.Popen[str]"
    http: httpx2.Client

    def get(self, path: str, **parameters: Any) -> Any:
        """Return the JSON answer of a request that succeeds."""
        answer = self.http.get(path, params=parameters)
        assert answer.status_code == 200, answer.text
        return answer.json()

    def keys(self, path: str, **parameters: Any) -> list[str]:
        """Return the keys of the images that a list answers."""
        return [image["key"] for image in self.get(path, **parameters)["images"]]


@contextmanager
def serving(environment: Mapping[str, str], log: Path) -> Iterator[Server]:
    """A server on a free port, ready, until the block ends."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    with log.open("w") as output:
        process = subprocess.Popen(
            [sys.executable, "-m", "server", "--port", str(port)],
            env=dict(environment),
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            text=True,
            start_new_session=True,
        )
    url = f"http://127.0.0.1:{port}"
    try:
        with httpx2.Client(base_url=url, timeout=30) as http:
            _wait_until_it_answers(http, process, log)
            yield Server(url, process, http)
    finally:
        process.terminate()
        process.wait(timeout=20)


def _wait_until_it_answers(http: httpx2.Client, process: "subprocess.Popen[str]", log: Path) -> None:
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        assert process.poll() is None, log.read_text()
        try:
            http.get("/healthz").raise_for_status()
        except httpx2.TransportError:
            time.sleep(0.05)
        else:
            return
    raise TimeoutError(log.read_text())


@pytest.fixture
def server(environment: Mapping[str, str], tmp_path: Path) -> Iterator[Server]:
    """A server on this test's database and home."""
    with serving(environment, tmp_path / "server.log") as running:
        yield running
