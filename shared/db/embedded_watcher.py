"""Stops the embedded PostgreSQL when its last user has ended; run as a program, by its path.

``embedded`` starts it and explains the locks. It imports nothing but the standard library, so that what stays in
memory beside the database is small, and so that it runs wherever its file lies.
"""

import contextlib
import fcntl
import os
import shutil
import signal
import sys
import time
from pathlib import Path

USERS = "users.lock"
WATCHER = "watcher.lock"
SERVER = "server.lock"
LOG = "postgresql.log"

LOG_LIMIT = 4 << 20  # bytes; one older log of about this size is kept beside it
LOG_CHECK_INTERVAL = 60.0
SHUTDOWN_TIMEOUT = (
    60.0  # seconds for a fast shutdown, before an immediate one, which costs a recovery at the next start
)


def open_lock(path: Path) -> int:
    """Return a new file descriptor for the lock file *path*, not locked and not inherited by programs started here."""
    return os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)


def try_lock(fd: int, operation: int = fcntl.LOCK_EX) -> bool:
    """Lock *fd* exclusively (or as *operation* says) and return True, or return False if that would have to wait."""
    try:
        fcntl.flock(fd, operation | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def trim_log(log: Path) -> None:
    """Move what *log* holds to ``<log>.1`` when it has grown over LOG_LIMIT; its writers append, and just go on."""
    with contextlib.suppress(OSError):
        if log.stat().st_size > LOG_LIMIT:
            shutil.copyfile(log, f"{log}.1")
            os.truncate(log, 0)


def _postmaster(data: Path) -> int | None:
    try:
        return int((data / "postmaster.pid").read_text(errors="replace").split("\n", 1)[0])
    except (OSError, ValueError):
        return None


def stop_server(folder: Path) -> None:
    """Stop the server of *folder* and return when the last of its processes has ended."""
    server = open_lock(folder / SERVER)
    try:
        deadline = time.monotonic() + SHUTDOWN_TIMEOUT
        signalled: tuple[int, int] | None = None
        while not try_lock(server):
            # The pid appears only some milliseconds after the start, and a pid may be somebody else's once its
            # process has ended: so it is read each time, and each is signalled once.
            pid, sign = _postmaster(folder / "data"), signal.SIGINT if time.monotonic() < deadline else signal.SIGQUIT
            if pid is not None and (pid, sign) != signalled:
                signalled = (pid, sign)
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, sign)
            time.sleep(0.02)
        with contextlib.suppress(OSError):
            shutil.rmtree((folder / "socket").read_text())
    finally:
        os.close(server)


def watch(folder: Path, watcher: int) -> None:
    """Wait until nobody uses the server of *folder*, then stop it; *watcher* is the locked descriptor of WATCHER."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGALRM, lambda *_: trim_log(folder / LOG))
    signal.setitimer(signal.ITIMER_REAL, LOG_CHECK_INTERVAL, LOG_CHECK_INTERVAL)
    users = open_lock(folder / USERS)
    fcntl.flock(users, fcntl.LOCK_EX)
    stop_server(folder)
    # In this order: who comes next waits for `users`, and must then find that it has no watcher.
    os.close(watcher)
    os.close(users)


if __name__ == "__main__":
    watch(Path(sys.argv[1]), int(sys.argv[2]))
