"""Fixtures for all tests: a real PostgreSQL, a database per test, the sample photos, the commands."""

import asyncio
import os
import signal
from collections.abc import AsyncIterator, Iterator, Mapping
from pathlib import Path
from uuid import uuid4

import psycopg
import pytest
import pytest_asyncio
from hypothesis import settings
from psycopg import sql
from psycopg.conninfo import make_conninfo

from shared.db import embedded, migrate
from shared.db.pool import Database
from shared.sample_photos import sample_photos
from tests.fakes.replicate import FakeReplicate
from tests.fakes.s3 import FaultyProxy, S3Server
from tests.helpers.processes import Server, Syncer, make_environment, make_home, new_database, serving

# No test asserts a duration. CI draws the same examples each time.
settings.register_profile("suite", deadline=None, derandomize="CI" in os.environ)
settings.load_profile("suite")

# A background job of a shell starts with SIGINT ignored, and its children too; tests of Ctrl-C need the default.
signal.signal(signal.SIGINT, signal.default_int_handler)

# For detailed messages of assertions in helpers.
pytest.register_assert_rewrite("tests.helpers.synced_folder")


@pytest.fixture(scope="session")
def shared_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder that all workers of this run share."""
    folder = tmp_path_factory.getbasetemp()
    return folder.parent if "PYTEST_XDIST_WORKER" in os.environ else folder


@pytest.fixture(scope="session")
def postgres(shared_folder: Path) -> Iterator[str]:
    """Yield the address of a PostgreSQL with pgvector, shared by all workers of this run."""
    # Durability does not matter here, and would take most of the time.
    unsafe = {"fsync": "off", "synchronous_commit": "off", "full_page_writes": "off"}
    # Passwords are checked for roles whose names begin with locked_ only.
    rules = shared_folder / "pg_hba.conf"
    rules.write_text("local all /^locked_ scram-sha-256\nlocal all all trust\n")
    settings = unsafe | {"hba_file": str(rules)}
    server = asyncio.run(embedded.start(shared_folder / "postgres", settings=settings))
    yield server.url
    asyncio.run(server.release())


@pytest.fixture(scope="session")
def template(postgres: str) -> str:
    """Return the name of a migrated database, from which the databases of tests are cloned."""
    name = f"template_{uuid4().hex[:12]}"
    with psycopg.connect(postgres, autocommit=True) as conn:
        conn.execute(sql.SQL("CREATE DATABASE {}").format(sql.Identifier(name)))

    async def prepare() -> None:
        async with await psycopg.AsyncConnection.connect(postgres, dbname=name) as conn:
            await migrate.migrate(conn)

    asyncio.run(prepare())
    return name


@pytest.fixture
def database_url(postgres: str, template: str) -> Iterator[str]:
    """Yield the address of this test's own database, with all migrations applied."""
    with new_database(postgres, template) as url:
        yield url


@pytest.fixture
def wrong_password(postgres: str, database_url: str) -> Iterator[str]:
    """Yield the address of this test's database for a role that has another password."""
    role = f"locked_{uuid4().hex[:8]}"
    with psycopg.connect(postgres, autocommit=True) as conn:
        conn.execute(f"CREATE ROLE {role} LOGIN PASSWORD 'right'")
        yield make_conninfo(database_url, user=role, password="wrong")
        conn.execute(f"DROP ROLE {role}")


@pytest_asyncio.fixture
async def database(database_url: str) -> AsyncIterator[Database]:
    """Yield an open Database on this test's database."""
    opened = Database(database_url, max_connections=5, retry_timeout=5)
    await opened.open()
    yield opened
    await opened.close()


@pytest.fixture(scope="session")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with the sample photos. Tests must not change it."""
    folder = tmp_path_factory.mktemp("photos")
    sample_photos(folder)
    return folder


@pytest.fixture
def home(tmp_path: Path, shared_folder: Path) -> Path:
    """Return this test's own IMAGE_BROWSER_HOME."""
    return make_home(tmp_path / "home", shared_folder)


@pytest.fixture
def environment(home: Path, database_url: str) -> dict[str, str]:
    """Return the environment for commands of this test: its database and home, the offline model."""
    return make_environment(home, database_url)


@pytest.fixture
def syncer(environment: dict[str, str]) -> Syncer:
    """Return a function that runs the command ``syncer``."""
    return Syncer(environment)


@pytest.fixture
def replicate() -> Iterator[FakeReplicate]:
    """Yield a fake Replicate."""
    with FakeReplicate.serving() as fake:
        yield fake


@pytest.fixture(scope="session")
def s3() -> Iterator[S3Server]:
    """Yield an S3 service whose listings have small pages."""
    with S3Server(page_size=10) as running:
        yield running


@pytest.fixture
def proxy(s3: S3Server) -> Iterator[FaultyProxy]:
    """Yield a proxy in front of the S3 service, which counts requests and injects faults."""
    with FaultyProxy(s3.url) as running:
        yield running


@pytest.fixture
def server(environment: Mapping[str, str], tmp_path: Path) -> Iterator[Server]:
    """Yield a running server with this test's database and home."""
    with serving(environment, tmp_path / "server.log") as running:
        yield running
