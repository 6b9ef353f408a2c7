"""Lock on a source: one process syncs it, and at most one more is queued.

The lock is a row in the database with an expiry, which works across machines and through poolers in transaction mode.
It expires 30 seconds after its last renewal. On one machine, it is also free as soon as its owner's process has ended.
"""

import asyncio
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from datetime import timedelta
from uuid import UUID

from shared.errors import ServiceError
from shared.sql import source_locks
from syncer.process_locks import forget, has_ended, process_lock
from syncer.source import Source

log = logging.getLogger(__name__)

LEASE = timedelta(seconds=30)
_POLL = 0.3  # seconds


@asynccontextmanager
async def source_lock(source: Source, *, wait: bool) -> AsyncIterator[bool]:
    """Hold the source's lock while the block runs; wait until another process releases it.

    If another process is already queued, it will do the same work: then yield False at once, unless *wait*.
    """
    with process_lock() as owner:
        try:
            if not await _acquire(source, owner, wait=wait):
                yield False
                return
            renewing = asyncio.create_task(_renew(source, owner))
            try:
                yield True
            finally:
                renewing.cancel()
        finally:
            with suppress(ServiceError, TimeoutError):  # otherwise, the lease expires
                async with asyncio.timeout(5):
                    await _release(source, owner, source_locks.ACTIVE, source_locks.QUEUED)


async def _acquire(source: Source, owner: UUID, *, wait: bool) -> bool:
    queued = False
    while not await _take(source, source_locks.ACTIVE, owner):
        queued = await _take(source, source_locks.QUEUED, owner)
        if not queued and not wait:
            return False
        await asyncio.sleep(_POLL)
    if queued:
        await _release(source, owner, source_locks.QUEUED)
    return True


async def _release(source: Source, owner: UUID, *positions: int) -> None:
    await source.database.run(source_locks.release, source.id, owner, positions=positions)


async def _take(source: Source, position: int, owner: UUID) -> bool:
    run = source.database.run
    current = await run(source_locks.take, source.id, position, owner, duration=LEASE)
    if current != owner and has_ended(current):
        ended = current
        current = await run(source_locks.take, source.id, position, owner, duration=LEASE, ended=[ended])
        forget(ended)
    return current == owner


async def _renew(source: Source, owner: UUID) -> None:
    while True:
        await asyncio.sleep(LEASE.total_seconds() / 3)
        try:
            # Losing the lock does no harm: each image is checked when it is committed.
            await _take(source, source_locks.ACTIVE, owner)
        except ServiceError as exc:
            log.info("could not renew the source lock: %s", exc)
