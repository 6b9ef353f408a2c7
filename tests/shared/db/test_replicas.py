"""Reads from replicas, with a real primary and a real streaming replica."""

import asyncio
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import httpx2
import psycopg
import pytest
from psycopg.conninfo import conninfo_to_dict

from shared.db.embedded import server as embedded_server
from tests.helpers.filled_collections import fill_database, unit_vectors
from tests.helpers.processes import Server, make_environment, make_home, serving

TOKEN = "token-that-writes"


@pytest.fixture(scope="module")
def primary(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The URL of a PostgreSQL that allows replication, with a collection of forty images."""
    home = tmp_path_factory.mktemp("primary")
    settings = {"fsync": "off", "full_page_writes": "off", "wal_level": "replica", "max_wal_senders": "4"}
    started = asyncio.run(embedded_server.start(home, settings=settings))
    asyncio.run(fill_database(started.url, "b", "offline-v1", unit_vectors(40, 384, seed=1)))
    yield started.url
    asyncio.run(started.release())


class Replica:
    """A streaming replica of the primary."""

    def __init__(self, primary: str, folder: Path) -> None:
        self._primary = primary
        self._binaries = embedded_server.find_binaries()
        self._data = folder / "data"
        self._socket = folder
        target = conninfo_to_dict(primary)
        self.url = f"postgresql://{target['user']}@/{target['dbname']}?host={folder}"
        folder.mkdir()
        folder.chmod(0o777)
        self._run("pg_basebackup", f"--dbname={primary}", f"--pgdata={self._data}", "-R", "-Xstream", "-cfast")

    def _run(self, program: str, *arguments: str) -> None:
        command = [*embedded_server.as_server_user(), str(self._binaries / program), *arguments]
        subprocess.run(command, check=True, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, timeout=60)

    def start(self) -> None:
        options = f"-c unix_socket_directories={self._socket} -c listen_addresses= -c hot_standby=on"
        self._run("pg_ctl", "start", "-w", f"-D{self._data}", f"-l{self._data}/log", "-o", options)

    def stop(self) -> None:
        self._run("pg_ctl", "stop", "-w", "-mimmediate", f"-D{self._data}")

    def catch_up(self) -> None:
        """Wait until the replica has replayed everything, uncommitted changes included."""
        with psycopg.connect(self._primary, autocommit=True) as conn:
            # Flush the WAL of transactions that have not been committed.
            row = conn.execute("SELECT pg_switch_wal()").fetchone()
        with psycopg.connect(self.url, autocommit=True) as conn:
            while conn.execute("SELECT pg_last_wal_replay_lsn() >= %s", row).fetchone() != (True,):
                time.sleep(0.05)

    def pause(self) -> None:
        """Catch up with the primary, then stop replaying."""
        self.catch_up()
        with psycopg.connect(self.url, autocommit=True) as conn:
            conn.execute("SELECT pg_wal_replay_pause()")

    def resume(self) -> None:
        with psycopg.connect(self.url, autocommit=True) as conn:
            conn.execute("SELECT pg_wal_replay_resume()")

    def promote(self) -> None:
        self._run("pg_ctl", "promote", "-w", f"-D{self._data}")


@pytest.fixture
def replica(primary: str) -> Iterator[Replica]:
    # Not in pytest's folder: socket paths are limited, and the server may run as another user.
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


def test_reads_use_replicas_and_fall_back_to_the_primary(
    primary: str, replica: Replica, shared_folder: Path, tmp_path: Path
) -> None:
    nowhere = f"postgresql://nobody@/nothing?host={tmp_path}"
    environment = make_environment(make_home(tmp_path / "home", shared_folder), primary)
    # A stale replica shows which database answers.
    replica.pause()
    remove_an_image(primary)
    with serving(environment | {"DATABASE_READ_URLS": f"{nowhere}, {replica.url}"}, tmp_path / "log") as server:
        assert images(server) == 40
        # Writes, here the vectors of new texts, go to the primary and are read back from it.
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
            assert time.monotonic() < deadline, "the replica is not used again"
            time.sleep(0.2)


def test_a_client_reads_its_own_writes_whatever_the_state_of_the_replica(
    primary: str, replica: Replica, shared_folder: Path, tmp_path: Path
) -> None:
    environment = make_environment(make_home(tmp_path / "home", shared_folder), primary)
    environment |= {"DATABASE_READ_URLS": replica.url, "API_TOKEN": TOKEN}
    with serving(environment, tmp_path / "log") as server, httpx2.Client(base_url=server.url) as other:

        def delete_an_image() -> int:
            """Delete an image, and return how many this client sees then."""
            newest = server.get("/api/images", limit=1)["images"][0]["id"]
            deleted = server.http.delete(f"/api/images/{newest}", headers={"Authorization": f"Bearer {TOKEN}"})
            assert deleted.status_code == 204, deleted.text
            return images(server)

        before = images(server)
        assert delete_an_image() == before - 1
        # Lagging: the writer reads from the primary, others from the replica.
        replica.pause()
        assert delete_an_image() == before - 2
        assert len(other.get("/api/images?limit=200").json()["images"]) == before - 1
        assert other.get("/api/images?limit=1", headers={"Cookie": "read_after=nowhere"}).status_code == 200
        replica.resume()
        replica.promote()
        assert delete_an_image() == before - 3
        replica.stop()
        assert delete_an_image() == before - 4
        replica.start()
