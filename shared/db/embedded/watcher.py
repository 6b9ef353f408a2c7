"""Program that stops the embedded PostgreSQL after its last user has exited.

``server.py`` starts it, and describes the files and locks. It imports only the standard library: the process is
small and can be run by its path.
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

LOG_LIMIT = 4 << 20  # bytes; the previous log, of about this size, is kept
LOG_CHECK_INTERVAL = 60.0  # seconds
SHUTDOWN_TIMEOUT = 60.0  # seconds, before an immediate shutdown, after which the next start needs crash recovery
POLL_INTERVAL = 0.02  # seconds


@contextlib.contextmanager
def open_lock(path: Path) -> Iterator[int]:
    """Yield a descriptor of the lock file *path*, not locked yet and not inherited by other programs."""
    fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        yield fd
    finally:
        os.close(fd)


def try_lock(fd: int, operation: int = fcntl.LOCK_EX) -> bool:
    """Lock *fd* and return True, or return False if another process holds the lock."""
    try:
        fcntl.flock(fd, operation | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def trim_log(log: Path) -> None:
    """Move the contents of *log* to ``<log>.1`` if they exceed LOG_LIMIT. Writers append, so they can keep it open."""
    with contextlib.suppress(OSError):
        if log.stat().st_size > LOG_LIMIT:
            shutil.copyfile(log, f"{log}.1")
            os.truncate(log, 0)


def clear_socket_folder(socket_folder: Path) -> None:
    """Remove the socket files of a killed server."""
    for name in (".s.PGSQL.5432", ".s.PGSQL.5432.lock"):
        (socket_folder / name).unlink(missing_ok=True)


def stop_server(folder: Path) -> None:
    """Stop the server of *folder* if it is running; return after the last of its processes has exited."""
    deadline = time.monotonic() + SHUTDOWN_TIMEOUT
    signalled: tuple[int, signal.Signals] | None = None
    with open_lock(folder / SERVER_LOCK) as server:
        while not try_lock(server):
            # A starting server has no PID file yet. Each PID is signalled only once: after the process has exited,
            # the PID may belong to another program.
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
    """Wait until the server of *folder* has no users, then stop it; *watcher* is the descriptor of ``watcher.lock``."""
    signal.signal(signal.SIGALRM, lambda *_: trim_log(folder / LOG))
    signal.setitimer(signal.ITIMER_REAL, LOG_CHECK_INTERVAL, LOG_CHECK_INTERVAL)
    with open_lock(folder / USERS_LOCK) as users:
        fcntl.flock(users, fcntl.LOCK_EX)
        stop_server(folder)
        # Before users.lock: the user that gets it next must see that there is no watcher any more.
        os.close(watcher)


if __name__ == "__main__":
    watch(Path(sys.argv[1]), int(sys.argv[2]))
