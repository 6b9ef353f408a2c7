"""A primary database with read replicas."""

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Sequence
from contextvars import ContextVar
from itertools import count
from typing import Concatenate, ParamSpec, TypeVar, Unpack

import psycopg

from shared.db.pool import Connection, Database, PoolOptions, PoolUsage, Work, first_line
from shared.errors import DatabaseError

log = logging.getLogger(__name__)

P = ParamSpec("P")
T = TypeVar("T")

_SKIPPED_FOR = 5.0  # seconds after a replica could not be reached
_CHECKOUT_TIMEOUT = 1.0  # seconds that one request waits for an unavailable replica
_CATCH_UP_TIMEOUT = 0.5  # seconds that a read waits for a replica that lags behind ``read_after``
_POLL = 0.02  # seconds

# Reads in this context must see what the primary had committed at this position of its WAL.
read_after: ContextVar[str | None] = ContextVar("read_after", default=None)


class _ReplicaBehind(Exception):
    """The replica has not replayed the WAL up to ``read_after``, or it was promoted."""


async def current_position(conn: Connection) -> str:
    """Return the position of the primary's WAL, which covers all transactions committed before: ``16/B374D848``."""
    cur = await conn.execute("SELECT pg_current_wal_lsn()::text")
    row = await cur.fetchone()
    assert row is not None
    return str(row[0])


class ReplicatedDatabase(Database):
    """A Database whose ``read`` prefers replicas, in turn; ``run`` always uses the primary."""

    def __init__(self, url: str, *, replicas: Sequence[str], **options: Unpack[PoolOptions]) -> None:
        super().__init__(url, **options)
        size = options["max_connections"]
        self._replicas = [
            Database(address, max_connections=size, retry_timeout=0, checkout_timeout=_CHECKOUT_TIMEOUT)
            for address in replicas
        ]
        self._skipped_until = [0.0] * len(replicas)
        self._requests = count()

    async def open(self) -> None:
        await super().open()
        for replica in self._replicas:
            await replica.open()

    async def close(self) -> None:
        await super().close()
        for replica in self._replicas:
            await replica.close()

    def usage(self) -> dict[str, PoolUsage]:
        """Return the current usage of the pools of ``primary``, ``replica-1``, ``replica-2``, …"""
        replicas = {f"replica-{number}": each.usage()["primary"] for number, each in enumerate(self._replicas, 1)}
        return super().usage() | replicas

    async def read(
        self, work: Callable[Concatenate[Connection, P], Awaitable[T]], *args: P.args, **kwargs: P.kwargs
    ) -> T:
        """Return ``work(connection, *args, **kwargs)`` from the first available replica, else from the primary.

        A replica that cannot be reached is skipped for some seconds. If ``read_after`` is set, the replica must have
        replayed that position within _CATCH_UP_TIMEOUT.
        """
        first = next(self._requests)
        for offset in range(len(self._replicas)):
            number = (first + offset) % len(self._replicas)
            if self._skipped_until[number] > time.monotonic():
                continue
            try:
                return await _read(self._replicas[number], lambda conn: work(conn, *args, **kwargs))
            except _ReplicaBehind:
                break
            except psycopg.Error as exc:
                log.warning("replica-%d failed, possibly because it lags: %s", number + 1, first_line(exc))
            except DatabaseError as exc:
                self._skipped_until[number] = time.monotonic() + _SKIPPED_FOR
                log.warning("replica-%d is skipped for %.0f s: %s", number + 1, _SKIPPED_FOR, exc)
        return await super().read(work, *args, **kwargs)


async def _read(replica: Database, work: Work[T]) -> T:
    """Return ``work(connection)`` once *replica* has reached ``read_after``; raise _ReplicaBehind if it does not."""
    position = read_after.get()
    if position is None:
        return await replica.read(work)
    deadline = time.monotonic() + _CATCH_UP_TIMEOUT
    while True:
        try:
            return await replica.read(_check_and_read, position, work)
        except _ReplicaBehind:
            if time.monotonic() > deadline:
                raise
        # The connection is free meanwhile.
        await asyncio.sleep(_POLL)


async def _check_and_read(conn: Connection, position: str, work: Work[T]) -> T:
    # After a promotion the last replayed position remains, so its reads go to the primary.
    cur = await conn.execute("SELECT pg_last_wal_replay_lsn() >= %s::pg_lsn", [position])
    if await cur.fetchone() != (True,):
        raise _ReplicaBehind
    return await work(conn)
