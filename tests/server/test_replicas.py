"""Reads from replicas: a real primary and a real streaming replica of it."""

import asyncio
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest
from psycopg.conninfo import conninfo_to_dict

from shared.db import embedded
from tests.helpers.filled_collections import fill_database, unit_vectors
from tests.helpers.processes import Server, make_environment, make_home, serving


@pytest.fixture(scope="module")
def primary(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of a PostgreSQL that others can follow, with a collection of forty images."""
    home = tmp_path_factory.mktemp("primary")
    unsafe = {"fsync": "off", "synchronous_commit": "off", "full_page_writes": "off"}
    server = asyncio.run(embedded.start(home, settings=unsafe | {"wal_level": "replica", "max_wal_senders": "4"}))
    asyncio.run(fill_database(server.url, "b", "offline-v1", unit_vectors(40, 384, seed=1)))
    yield server.url
    asyncio.run(server.release())


class Replica:
    """A PostgreSQL that follows the primary."""

    def __init__(self, primary: str, folder: Path) -> None:
        self._primary = primary
        self._binaries = embedded._binaries()
        self._data = folder / "data"
        self._socket = folder
        target = conninfo_to_dict(primary)
        self.url = f"postgresql://{target['user']}@/{target['dbname']}?host={folder}"
        folder.mkdir()
        folder.chmod(0o777)
        self._run("pg_basebackup", f"--dbname={primary}", f"--pgdata={self._data}", "-R", "-Xstream", "-cfast")

    def _run(self, program: str, *arguments: str) -> None:
        command = [*embedded._as_server_user(), str(self._binaries / program), *arguments]
        subprocess.run(command, check=True, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, timeout=60)

    def start(self) -> None:
        options = f"-c unix_socket_directories={self._socket} -c listen_addresses= -c hot_standby=on"
        self._run("pg_ctl", "start", "-w", f"-D{self._data}", f"-l{self._data}/log", "-o", options)

    def stop(self) -> None:
        self._run("pg_ctl", "stop", "-w", "-mimmediate", f"-D{self._data}")

    def catch_up(self) -> None:
        """Wait until it has seen all that the primary has done, committed or not."""
        with psycopg.connect(self._primary, autocommit=True) as conn:
            # What is under way need not have been written down so far.
            row = conn.execute("SELECT pg_switch_wal()").fetchone()
        with psycopg.connect(self.url, autocommit=True) as conn:
            while conn.execute("SELECT pg_last_wal_replay_lsn() >= %s", row).fetchone() != (True,):
                time.sleep(0.05)

    def pause(self) -> None:
        """Catch up with the primary, and then follow it no more."""
        self.catch_up()
        with psycopg.connect(self.url, autocommit=True) as conn:
            conn.execute("SELECT pg_wal_replay_pause()")


@pytest.fixture
def replica(primary: str) -> Iterator[Replica]:
    # Not under pytest's folder: a socket's path is short, and the server may run as another user.
    with tempfile.TemporaryDirectory(prefix="replica-", dir="/tmp") as folder:
        made = Replica(primary, Path(folder) / "pg")
        made.start()
        yield made
        made.stop()


def images(server: Server) -> int:
    return len(server.get("/api/images", limit=200)["images"])


def remove_an_image(primary: str) -> None:
    with psycopg.connect(primary) as conn:
        conn.execute("DELETE FROM b_images WHERE id = (SELECT max(id) FROM b_images)")


def test_replicas_are_read_while_they_answer_and_the_primary_when_they_do_not(
    primary: str, replica: Replica, shared_folder: Path, tmp_path: Path
) -> None:
    nowhere = f"postgresql://nobody@/nothing?host={tmp_path}"
    environment = make_environment(make_home(tmp_path / "home", shared_folder), primary)
    # That the replica is behind shows who answers.
    replica.pause()
    remove_an_image(primary)
    with serving(environment | {"DATABASE_READ_URLS": f"{nowhere}, {replica.url}"}, tmp_path / "log") as server:
        assert images(server) == 40
        # What is written goes to the primary, and is found there at once: here, the vectors of two new texts.
        for text in ("a boat", "a boat", "a street"):
            assert server.get("/api/search", q=text)["images"]

        replica.stop()
        assert [images(server) for _ in range(3)] == [39] * 3
        assert server.get("/api/search", q="a boat")["images"]

        replica.start()
        replica.pause()
        remove_an_image(primary)
        deadline = time.monotonic() + 60
        while images(server) != 39:
            assert time.monotonic() < deadline, "the replica is not asked again"
            time.sleep(0.2)
