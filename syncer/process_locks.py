"""Who holds leases: a process, for as long as it lives.

Leases in the database end some time after their holder gave the last sign of life, and other machines see them. On one
machine nobody needs to wait for that: each holder keeps a file locked, and the kernel gives the lock free when the
process ends, however it ends.
"""

import fcntl
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from uuid import UUID, uuid4


@contextmanager
def holder() -> Iterator[UUID]:
    """Give what leases are taken with; others on this machine see whether the block still lasts."""
    name = uuid4()
    path = _lock_file(name)
    try:
        fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    except OSError:  # no place for it: then all wait for the lease's end
        yield name
        return
    try:
        fcntl.flock(fd, fcntl.LOCK_EX)
        yield name
    finally:
        path.unlink(missing_ok=True)
        os.close(fd)


def has_ended(name: UUID) -> bool:
    """Whether that holder is known to have ended; False also where it runs on another machine."""
    try:
        fd = os.open(_lock_file(name), os.O_RDWR | os.O_CLOEXEC)
    except OSError:
        return False
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False
    else:
        return True
    finally:
        os.close(fd)


def forget(name: UUID) -> None:
    """Remove what is left of a holder that has ended, when it holds nothing any more."""
    _lock_file(name).unlink(missing_ok=True)


def _lock_file(name: UUID) -> Path:
    return Path(tempfile.gettempdir(), f"image-browser-{name}.lock")
