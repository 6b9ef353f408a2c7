"""A real PgBouncer in transaction mode in front of the tests' PostgreSQL, as at Supabase."""

import os
import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from psycopg.conninfo import conninfo_to_dict

from tests.helpers.ports import free_port

PROGRAM = shutil.which("pgbouncer") or shutil.which("pgbouncer", path="/usr/sbin")


@contextmanager
def pooled(database_url: str, *, connections: int = 4) -> Iterator[str]:
    """Yield the address of the database through PgBouncer, which opens at most *connections* to it.

    If PgBouncer is not installed, the test is skipped, or fails if REQUIRE_PGBOUNCER is set.
    """
    if PROGRAM is None:
        if os.environ.get("REQUIRE_PGBOUNCER"):
            pytest.fail("REQUIRE_PGBOUNCER is set, but PgBouncer is not installed: apt-get install pgbouncer")
        pytest.skip("PgBouncer is not installed: apt-get install pgbouncer")
    target = conninfo_to_dict(database_url)
    user, database = target["user"], target["dbname"]
    port = free_port()
    with tempfile.TemporaryDirectory(prefix="pgbouncer-") as folder:
        configuration, users = Path(folder, "pgbouncer.ini"), Path(folder, "users.txt")
        users.write_text(f'"{user}" ""\n')
        configuration.write_text(
            f"""[databases]
{database} = host={target["host"]} port={target.get("port", 5432)} dbname={database} user={user}
[pgbouncer]
listen_addr = 127.0.0.1
listen_port = {port}
unix_socket_dir =
auth_type = any
auth_file = {users}
pool_mode = transaction
default_pool_size = {connections}
max_client_conn = 200
"""
        )
        command = [*_as_nobody(), PROGRAM, "--quiet", str(configuration)]
        process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
        try:
            _wait_for_port(port, process)
            yield f"postgresql://{user}@127.0.0.1:{port}/{database}"
        finally:
            process.terminate()
            process.wait(timeout=10)


def _as_nobody() -> list[str]:
    """Return the command prefix for root: PgBouncer refuses to run as root, but must reach a socket of root."""
    if os.geteuid() != 0:
        return []
    capability = ["--inh-caps=+dac_override", "--ambient-caps=+dac_override"]
    return ["setpriv", "--reuid=nobody", "--regid=nogroup", "--clear-groups", *capability, "--"]


def _wait_for_port(port: int, process: "subprocess.Popen[bytes]") -> None:
    deadline = time.monotonic() + 20
    while time.monotonic() < deadline:
        assert process.poll() is None, "PgBouncer exited: see its output"
        try:
            socket.create_connection(("127.0.0.1", port), timeout=1).close()
        except OSError:
            time.sleep(0.05)
        else:
            return
    raise TimeoutError("PgBouncer is not listening")
