"""One syncer at a time brings a folder over; one more waits for its turn.

The turn is a lease in the database, which poolers in transaction mode leave alone and other machines see. It ends half
a minute after its holder gave the last sign of life, and on one machine when the holder's process ends.
"""

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta
from functools import partial
from uuid import UUID

from shared.db.pool import Database
from shared.errors import ServiceError
from shared.sql import source_locks
from syncer.process_locks import forget, has_ended, holder

log = logging.getLogger(__name__)

LEASE = timedelta(seconds=30)
_POLL = 0.3  # seconds


@asynccontextmanager
async def turn(database: Database, source: int, *, patient: bool) -> AsyncIterator[bool]:
    """Hold the source's turn as long as the block lasts.

    Waits while another process has it. False, at once, when a further one waits already and we are not *patient*: what
    we would bring over, that one will.
    """
    with holder() as ours:
        try:
            if not await _wait(database, source, ours, patient=patient):
                yield False
                return
            renewing = asyncio.create_task(_renew(database, source, ours))
            try:
                yield True
            finally:
                renewing.cancel()
        finally:
            with contextlib.suppress(ServiceError, TimeoutError):  # then the lease ends by itself
                async with asyncio.timeout(5):
                    both = [source_locks.AT_WORK, source_locks.NEXT]
                    await database.run(source_locks.release, source=source, holder=ours, positions=both)


async def _wait(database: Database, source: int, ours: UUID, *, patient: bool) -> bool:
    waited = False
    while not await _take(database, source, source_locks.AT_WORK, ours):
        waited = await _take(database, source, source_locks.NEXT, ours)
        if not waited and not patient:
            return False
        await asyncio.sleep(_POLL)
    if waited:
        await database.run(source_locks.release, source=source, holder=ours, positions=[source_locks.NEXT])
    return True


async def _take(database: Database, source: int, number: int, ours: UUID) -> bool:
    take = partial(source_locks.take, source=source, position=number, holder=ours, duration=LEASE)
    has_it = await database.run(take)
    if has_it != ours and has_ended(has_it):
        ended, has_it = has_it, await database.run(take, ended=[has_it])
        forget(ended)
    return has_it == ours


async def _renew(database: Database, source: int, ours: UUID) -> None:
    while True:
        await asyncio.sleep(LEASE.total_seconds() / 3)
        try:
            # Whoever took the turn meanwhile does the same work: what both do is checked image by image.
            await _take(database, source, source_locks.AT_WORK, ours)
        except ServiceError as exc:
            log.info("the turn could not be renewed: %s", exc)
