"""Liveness of the processes that own leases.

A lease in the database expires some time after its last renewal, and other machines see no more than that. On one
machine that wait is unnecessary: each owner locks a file, and the kernel releases that lock when the process ends.
"""

import fcntl
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from uuid import UUID, uuid4


@contextmanager
def process_lock() -> Iterator[UUID]:
    """Yield an owner id for leases. Other processes on this machine can tell whether the block still runs."""
    owner = uuid4()
    path = _lock_file(owner)
    try:
        fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    except OSError:  # no room for the file: others wait until the lease expires
        yield owner
        return
    try:
        fcntl.flock(fd, fcntl.LOCK_EX)
        yield owner
    finally:
        path.unlink(missing_ok=True)
        os.close(fd)


def has_ended(owner: UUID) -> bool:
    """Return whether the owner's process has certainly ended; False if it runs on another machine."""
    try:
        fd = os.open(_lock_file(owner), os.O_RDWR | os.O_CLOEXEC)
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


def forget(owner: UUID) -> None:
    """Remove the lock file of an owner that has ended and whose leases were taken over."""
    _lock_file(owner).unlink(missing_ok=True)


def _lock_file(owner: UUID) -> Path:
    return Path(tempfile.gettempdir(), f"image-browser-{owner}.lock")
