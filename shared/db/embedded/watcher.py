"""Stops the embedded PostgreSQL when its last user has ended; run as a program, by its path.

``embedded`` starts it, and explains the files and locks. Only the standard library is imported here, so that what
stays in memory beside the database is small, and runs wherever its file lies.
"""

import contextlib
import fcntl
import os
import shutil
import signal
import sys
import time
from collections.abc import Iterator
from pathlib import Path

USERS_LOCK = "users.lock"
WATCHER_LOCK = "watcher.lock"
SERVER_LOCK = "server.lock"
LOG = "postgresql.log"
SOCKET = "socket"

LOG_LIMIT = 4 << 20  # bytes; one older log of about this size is kept
LOG_CHECK_INTERVAL = 60.0  # seconds
SHUTDOWN_TIMEOUT = 60.0  # seconds for a clean shutdown, before one that costs a recovery at the next start
POLL_INTERVAL = 0.02  # seconds


@contextlib.contextmanager
def open_lock(path: Path) -> Iterator[int]:
    """Give a descriptor of the lock file *path*, for a while: not locked yet, and not inherited by programs."""
    fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        yield fd
    finally:
        os.close(fd)


def try_lock(fd: int, operation: int = fcntl.LOCK_EX) -> bool:
    """Lock *fd* and return True, or return False if that would have to wait."""
    try:
        fcntl.flock(fd, operation | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def trim_log(log: Path) -> None:
    """Move what *log* holds to ``<log>.1`` if that is over LOG_LIMIT; those who write to it append, and just go on."""
    with contextlib.suppress(OSError):
        if log.stat().st_size > LOG_LIMIT:
            shutil.copyfile(log, f"{log}.1")
            os.truncate(log, 0)


def clear_socket_folder(socket_folder: Path) -> None:
    """Remove what a server that was killed leaves in its socket's folder."""
    for name in (".s.PGSQL.5432", ".s.PGSQL.5432.lock"):
        (socket_folder / name).unlink(missing_ok=True)


def stop_server(folder: Path) -> None:
    """Stop the server of *folder* if it runs, and return when the last of its processes has ended."""
    deadline = time.monotonic() + SHUTDOWN_TIMEOUT
    signalled: tuple[int, signal.Signals] | None = None
    with open_lock(folder / SERVER_LOCK) as server:
        while not try_lock(server):
            # A server that has just been started has no pid file yet. Each pid is signalled once, as it may be
            # another program's after its process has ended.
            with contextlib.suppress(OSError, ValueError):
                pid = int((folder / "data" / "postmaster.pid").read_text(errors="replace").partition("\n")[0])
                sign = signal.SIGINT if time.monotonic() < deadline else signal.SIGQUIT
                if (pid, sign) != signalled:
                    signalled = (pid, sign)
                    os.kill(pid, sign)
            time.sleep(POLL_INTERVAL)
        with contextlib.suppress(OSError):
            socket_folder = Path((folder / SOCKET).read_text())
            clear_socket_folder(socket_folder)
            socket_folder.rmdir()


def watch(folder: Path, watcher: int) -> None:
    """Wait until nobody uses the server of *folder*, then stop it; *watcher* is the descriptor of our own lock."""
    signal.signal(signal.SIGALRM, lambda *_: trim_log(folder / LOG))
    signal.setitimer(signal.ITIMER_REAL, LOG_CHECK_INTERVAL, LOG_CHECK_INTERVAL)
    with open_lock(folder / USERS_LOCK) as users:
        fcntl.flock(users, fcntl.LOCK_EX)
        stop_server(folder)
        # Before `users`: whoever waits for that must find that there is no watcher any more.
        os.close(watcher)


if __name__ == "__main__":
    watch(Path(sys.argv[1]), int(sys.argv[2]))
