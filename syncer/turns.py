"""One syncer at a time brings a folder over; one more waits for its turn.

The turn is a lease in the database, which poolers in transaction mode leave alone and other machines see. It ends half
a minute after its holder gave the last sign of life. On one machine nobody waits for that: each holder keeps a file
locked, and the kernel gives the lock free when the process ends, however it ends.
"""

import asyncio
import contextlib
import fcntl
import logging
import os
import tempfile
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from datetime import timedelta
from functools import partial
from pathlib import Path
from uuid import UUID, uuid4

from shared.db.pool import Database
from shared.errors import ServiceError
from shared.sql import leases

log = logging.getLogger(__name__)

LEASE = timedelta(seconds=30)
_POLL = 0.3  # seconds


@asynccontextmanager
async def turn(database: Database, source: int, *, patient: bool) -> AsyncIterator[bool]:
    """Hold the source's turn as long as the block lasts.

    Waits while another process has it. False, at once, when a further one waits already and we are not *patient*: what
    we would bring over, that one will.
    """
    holder = uuid4()
    with _sign_of_life(holder):
        try:
            if not await _wait(database, source, holder, patient=patient):
                yield False
                return
            renewing = asyncio.create_task(_renew(database, source, holder))
            try:
                yield True
            finally:
                renewing.cancel()
        finally:
            with contextlib.suppress(ServiceError, TimeoutError):  # then the lease ends by itself
                async with asyncio.timeout(5):
                    both = [leases.AT_WORK, leases.NEXT]
                    await database.run(partial(leases.release, source=source, holder=holder, turns=both))


async def _wait(database: Database, source: int, holder: UUID, *, patient: bool) -> bool:
    waited = False
    while not await _take(database, source, leases.AT_WORK, holder):
        waited = await _take(database, source, leases.NEXT, holder)
        if not waited and not patient:
            return False
        await asyncio.sleep(_POLL)
    if waited:
        await database.run(partial(leases.release, source=source, holder=holder, turns=[leases.NEXT]))
    return True


async def _take(database: Database, source: int, number: int, holder: UUID) -> bool:
    take = partial(leases.take, source=source, turn=number, holder=holder, duration=LEASE)
    has_it = await database.run(take)
    if has_it != holder and _ended(has_it):
        has_it = await database.run(partial(take, ended=[has_it]))
    return has_it == holder


async def _renew(database: Database, source: int, holder: UUID) -> None:
    while True:
        await asyncio.sleep(LEASE.total_seconds() / 3)
        try:
            # Whoever took the turn meanwhile does the same work: what both do is checked image by image.
            await _take(database, source, leases.AT_WORK, holder)
        except ServiceError as exc:
            log.info("the turn could not be renewed: %s", exc)


def _lock_file(holder: UUID) -> Path:
    return Path(tempfile.gettempdir(), f"image-browser-{holder}.lock")


@contextmanager
def _sign_of_life(holder: UUID) -> Iterator[None]:
    path = _lock_file(holder)
    try:
        fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    except OSError:  # no place for it: then all wait for the lease's end
        yield
        return
    try:
        fcntl.flock(fd, fcntl.LOCK_EX)
        yield
    finally:
        path.unlink(missing_ok=True)
        os.close(fd)


def _ended(holder: UUID) -> bool:
    """Whether that process is known to have ended; False also where it runs on another machine."""
    try:
        fd = os.open(_lock_file(holder), os.O_RDWR | os.O_CLOEXEC)
    except OSError:
        return False
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False
    else:
        _lock_file(holder).unlink(missing_ok=True)
        return True
    finally:
        os.close(fd)
