"""Commands and servers as users run them: real processes with a database and a home of their own."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from uuid import uuid4

import httpx2
import psycopg
from psycopg import sql

from tests.helpers.ports import free_port

# What a test's outcome must not depend on.
_OURS = ("AWS_", "R2_", "S3_", "REPLICATE_", "DATABASE_", "IMAGE_BROWSER_", "EMBEDDER", "BUCKET", "API_", "READ_")

CLEAN_ENVIRONMENT = {name: value for name, value in os.environ.items() if not name.startswith(_OURS)} | {
    "AWS_EC2_METADATA_DISABLED": "true",
    "PYTHONWARNINGS": "default",
}


@contextmanager
def new_database(postgres: str, template: str) -> Iterator[str]:
    """The address of a new database, migrated, until the block ends."""
    name = f"test_{uuid4().hex[:12]}"
    with psycopg.connect(postgres, autocommit=True) as conn:
        conn.execute(sql.SQL("CREATE DATABASE {} TEMPLATE {}").format(sql.Identifier(name), sql.Identifier(template)))
        yield postgres.replace("/image_browser?", f"/{name}?")
        conn.execute(sql.SQL("DROP DATABASE {} WITH (FORCE)").format(sql.Identifier(name)))


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
    port = free_port()
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
