"""Run ``syncer`` and ``server`` as real processes, each test with its own database and home folder."""

import asyncio
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any
from uuid import uuid4

import httpx2
import psycopg
from psycopg import sql

from shared.embedders.offline.cache import ensure_built
from shared.embedders.offline.embedder import OfflineEmbedder
from tests.helpers.ports import free_port

# Variables that would change the outcome of tests.
_SETTINGS = (
    "AWS_",
    "R2_",
    "S3_",
    "REPLICATE_",
    "DATABASE_",
    "IMAGE_BROWSER_",
    "EMBEDDER",
    "BUCKET",
    "API_",
    "READ_",
    "OCR",
)

CLEAN_ENVIRONMENT = {name: value for name, value in os.environ.items() if not name.startswith(_SETTINGS)} | {
    "AWS_EC2_METADATA_DISABLED": "true",
    "PYTHONWARNINGS": "default",
    "OCR": "off",  # takes time; its own tests turn it on
}


@contextmanager
def new_database(postgres: str, template: str) -> Iterator[str]:
    """Yield the address of a clone of *template*, which is dropped afterwards."""
    name = f"test_{uuid4().hex[:12]}"
    with psycopg.connect(postgres, autocommit=True) as conn:
        conn.execute(sql.SQL("CREATE DATABASE {} TEMPLATE {}").format(sql.Identifier(name), sql.Identifier(template)))
        yield postgres.replace("/image_browser?", f"/{name}?")
        conn.execute(sql.SQL("DROP DATABASE {} WITH (FORCE)").format(sql.Identifier(name)))


@dataclass
class Command:
    """Result of a finished command."""

    status: int
    stdout: str
    stderr: str

    @property
    def json(self) -> Any:
        return json.loads(self.stdout)


@dataclass
class Syncer:
    """The command ``syncer`` in a given environment."""

    environment: dict[str, str]
    command: Sequence[str] = (sys.executable, "-m", "syncer")

    def __call__(self, *arguments: str | Path, timeout: float = 120, **environment: str) -> Command:
        """Run the command and return its result; *environment* overrides variables."""
        with self.start(*arguments, **environment) as process:
            try:
                stdout, stderr = process.communicate(timeout=timeout)
            except subprocess.TimeoutExpired:
                os.killpg(process.pid, signal.SIGKILL)
                raise
        return Command(process.returncode, stdout, stderr)

    def start(self, *arguments: str | Path, **environment: str) -> "subprocess.Popen[str]":
        """Start the command in its own process group."""
        return subprocess.Popen(
            [*self.command, *map(str, arguments)],
            env=self.environment | environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )


def make_home(folder: Path, shared_folder: Path) -> Path:
    """Create an IMAGE_BROWSER_HOME. All of a run share the offline model, which is built only once."""
    folder.mkdir()
    (folder / "models").symlink_to(_offline_models(shared_folder))
    return folder


@cache
def _offline_models(shared_folder: Path) -> Path:
    """Return the folder of the offline model, built now: the first tests would wait for it otherwise."""
    models = shared_folder / "models"
    with ThreadPoolExecutor() as thread:  # a test may run an event loop in this one
        thread.submit(asyncio.run, ensure_built(models / OfflineEmbedder.name)).result()
    return models


def make_environment(home: Path, database_url: str) -> dict[str, str]:
    """Return a clean environment for commands with this home, this database and the offline model."""
    settings = {"DATABASE_URL": database_url, "IMAGE_BROWSER_HOME": str(home), "EMBEDDER": "offline"}
    return CLEAN_ENVIRONMENT | settings


@dataclass
class Server:
    """A running ``server`` with an HTTP client."""

    url: str
    process: "subprocess.Popen[str]"
    http: httpx2.Client

    def get(self, path: str, **parameters: Any) -> Any:
        """Return the JSON response; fail unless the status is 200."""
        response = self.http.get(path, params=parameters)
        assert response.status_code == 200, response.text
        return response.json()

    def keys(self, path: str, **parameters: Any) -> list[str]:
        """Return the keys of the images in the response."""
        return [image["key"] for image in self.get(path, **parameters)["images"]]

    def all_images(self, path: str, *, limit: int, **parameters: Any) -> list[dict[str, Any]]:
        """Return the images of all pages of a list; every page but the last must be full."""
        images: list[dict[str, Any]] = []
        while True:
            page = self.get(path, limit=limit, **parameters)
            images += page["images"]
            if page["next_cursor"] is None:
                return images
            assert len(page["images"]) == limit
            parameters["cursor"] = page["next_cursor"]


@contextmanager
def serving(
    environment: Mapping[str, str], log: Path, *, command: Sequence[str] = (sys.executable, "-m", "server")
) -> Iterator[Server]:
    """Yield a server that is ready on a free port, and stop it afterwards."""
    port = free_port()
    with log.open("w") as output:
        process = subprocess.Popen(
            [*command, "--port", str(port)],
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
            _wait_until_healthy(http, process, log)
            yield Server(url, process, http)
    finally:
        process.terminate()
        process.wait(timeout=40)


def _wait_until_healthy(http: httpx2.Client, process: "subprocess.Popen[str]", log: Path) -> None:
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
