"""A primary database with read replicas."""

import logging
import time
from collections.abc import Awaitable, Callable, Sequence
from itertools import count
from typing import Concatenate, ParamSpec, TypeVar, Unpack

import psycopg

from shared.db.pool import Connection, Database, PoolOptions, PoolUsage, first_line
from shared.errors import DatabaseError

log = logging.getLogger(__name__)

P = ParamSpec("P")
T = TypeVar("T")

_SKIPPED_FOR = 5.0  # seconds after a replica could not be reached
_CHECKOUT_TIMEOUT = 1.0  # seconds that one request waits for an unavailable replica


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

        A replica that cannot be reached is skipped for some seconds.
        """
        first = next(self._requests)
        for offset in range(len(self._replicas)):
            number = (first + offset) % len(self._replicas)
            if self._skipped_until[number] > time.monotonic():
                continue
            try:
                return await self._replicas[number].read(work, *args, **kwargs)
            except psycopg.Error as exc:
                log.warning("replica-%d failed, possibly because it lags: %s", number + 1, first_line(exc))
            except DatabaseError as exc:
                self._skipped_until[number] = time.monotonic() + _SKIPPED_FOR
                log.warning("replica-%d is skipped for %.0f s: %s", number + 1, _SKIPPED_FOR, exc)
        return await super().read(work, *args, **kwargs)
