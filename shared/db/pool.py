"""Connection pool with retries, which works behind poolers and outlives restarts of PostgreSQL."""

import asyncio
import logging
import math
import re
import time
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Any, Concatenate, NotRequired, ParamSpec, Self, TypedDict, TypeVar, Unpack
from weakref import WeakKeyDictionary

import psycopg
from psycopg import AsyncConnection
from psycopg_pool import AsyncConnectionPool, PoolTimeout

from shared.errors import DatabaseError
from shared.retry import DATABASE
from shared.timing import timed

log = logging.getLogger(__name__)

P = ParamSpec("P")
T = TypeVar("T")
Connection = AsyncConnection[Any]
Work = Callable[[Connection], Awaitable[T]]

# Shutdown, startup, too many connections, deadlock, serialisation failure, and our own lock and statement timeouts.
_TRANSIENT = {"57P01", "57P02", "57P03", "53300", "40001", "40P01", "55P03", "57014", "25P03", "25P04", "25006"}
# Failures to connect that only a person can end. They have no SQLSTATE (measured with psycopg 3.3), only the words of
# libpq, PostgreSQL and poolers.
_CANNOT_PASS = re.compile(
    r"authentication failed|no password supplied|no pg_hba\.conf entry|not permitted to log in"
    r'|(role|user|database) "[^"]*" does not exist|permission denied for database|no such (user|database)'
    r"|tenant or user not found|does not support SSL|certificate verify failed|certificate .* does not exist"
    r"|invalid (port number|\w+ value)",
    re.IGNORECASE,
)
_REFUSED_CHECKOUT_TIMEOUT = 0.1  # seconds; starts another attempt to connect, for a later call


def is_transient(error: BaseException) -> bool:
    """Return whether the database is unavailable or busy, so that the same work may succeed later.

    Failures to connect and broken connections have no SQLSTATE.
    """
    if not isinstance(error, (psycopg.OperationalError, psycopg.InternalError)):
        return False
    if error.sqlstate is None:
        return not _CANNOT_PASS.search(str(error))
    return error.sqlstate in _TRANSIENT or error.sqlstate.startswith("08")


CONNECT_OPTIONS: dict[str, Any] = {
    # Poolers in transaction mode mix up sessions, and preparing saves less than 0.1 ms per statement (measured).
    "prepare_threshold": None,
    "connect_timeout": 10,
    # Detect a server that vanished silently, as in a failover, within a minute instead of fifteen.
    "keepalives_idle": 30,
    "keepalives_interval": 10,
    "keepalives_count": 3,
    "tcp_user_timeout": 60_000,  # milliseconds
}

_CHECK_AFTER_IDLE = 1.0  # seconds


@dataclass(frozen=True)
class PoolUsage:
    """Connections of a pool by state, and the number of callers waiting for one."""

    in_use: int
    idle: int
    waiting: int


class _ReportingConnection(AsyncConnection[Any]):
    """A connection that reports the outcome of connecting, which the pool keeps to itself."""

    @classmethod
    async def connect(  # type: ignore[override]
        cls, conninfo: str = "", *, report_outcome: Callable[[str], None], **options: Any
    ) -> Self:
        try:
            conn = await super().connect(conninfo, **options)
        except psycopg.Error as exc:
            report_outcome(str(exc))
            raise
        report_outcome("")
        return conn


class PoolOptions(TypedDict):
    """Options of a Database.

    Work is retried for ``retry_timeout`` seconds while the database is unavailable; ``report`` gets the reason each
    time. A caller waits at most ``checkout_timeout`` seconds (default: 10) for a connection.
    """

    max_connections: int
    retry_timeout: float
    checkout_timeout: NotRequired[float]
    report: NotRequired[Callable[[str], None]]


class Database:
    """A pool of connections to one PostgreSQL, directly or through a pooler in transaction mode."""

    def __init__(self, url: str, **options: Unpack[PoolOptions]) -> None:
        self._last_used: WeakKeyDictionary[Connection, float] = WeakKeyDictionary()
        self._retry_timeout = options["retry_timeout"]
        self._report = options.get("report")
        self._checkout_timeout = options.get("checkout_timeout", 10.0)
        self._tried_to_connect = asyncio.Event()
        self._connect_error = ""  # of the last attempt, if it failed
        self._pool: AsyncConnectionPool[Connection] = AsyncConnectionPool(
            url,
            min_size=1,
            max_size=options["max_connections"],
            open=False,
            connection_class=_ReportingConnection,
            kwargs={
                **CONNECT_OPTIONS,
                "autocommit": True,
                "application_name": "image-browser",
                "report_outcome": self._record_outcome,
            },
            check=self._check,
            reconnect_timeout=30,
        )

    async def open(self) -> None:
        """Start the pool. It connects in the background, so a server can start before its database."""
        # The pool logs each failed attempt to connect; callers get the relevant part as a DatabaseError.
        logging.getLogger("psycopg.pool").setLevel(logging.ERROR)
        await self._pool.open(wait=False)

    async def close(self) -> None:
        """Close all connections."""
        await self._pool.close()

    def usage(self) -> dict[str, PoolUsage]:
        """Return the current usage of each pool, by name."""
        stats = self._pool.get_stats()
        idle = stats["pool_available"]
        return {"primary": PoolUsage(stats["pool_size"] - idle, idle, stats["requests_waiting"])}

    async def run(
        self, work: Callable[Concatenate[Connection, P], Awaitable[T]], *args: P.args, **kwargs: P.kwargs
    ) -> T:
        """Return ``work(connection, *args, **kwargs)``, run in one transaction.

        *work* must be idempotent: it is retried as a whole, even after a commit whose outcome is unknown because the
        connection broke. Raises DatabaseError when retry_timeout is over, and at once for permanent failures. Other
        errors of psycopg (a violated constraint) pass through.
        """

        async def in_transaction(conn: Connection) -> T:
            async with conn.transaction():
                return await work(conn, *args, **kwargs)

        return await self._retry(in_transaction)

    async def read(
        self, work: Callable[Concatenate[Connection, P], Awaitable[T]], *args: P.args, **kwargs: P.kwargs
    ) -> T:
        """Return ``work(connection, *args, **kwargs)`` like ``run``, but outside a transaction.

        For work that only reads: a transaction would cost two more round trips. Each statement
        sees what was committed when it began, or an earlier state if a replica answers.
        """
        return await self._retry(lambda conn: work(conn, *args, **kwargs))

    async def run_autocommit(
        self, work: Callable[Concatenate[Connection, P], Awaitable[T]], *args: P.args, **kwargs: P.kwargs
    ) -> T:
        """Return ``work(connection, *args, **kwargs)`` like ``run``, but each statement is a transaction of its own.

        For statements that PostgreSQL refuses in a transaction, such as CREATE INDEX CONCURRENTLY.
        """
        return await self._retry(lambda conn: work(conn, *args, **kwargs))

    async def _retry(self, work: Work[T]) -> T:
        task = asyncio.current_task()
        cancelled_before = task.cancelling() if task else 0

        def is_cancelled() -> bool:
            # CancelledError can get lost: psycopg cancels the running statement too, and if that hits the next
            # statement, its error replaces the CancelledError; before Python 3.12 wait_for(), which the pool uses,
            # may swallow it. Retrying then would leave the caller that cancelled us waiting for ever.
            return task is not None and task.cancelling() > cancelled_before

        def is_retryable(error: BaseException) -> bool:
            return is_transient(error) and not is_cancelled()

        started = time.monotonic()
        policy = replace(DATABASE, timeout=self._retry_timeout, is_transient=is_retryable, on_retry=self._report_retry)
        try:
            result = await policy.run(self._attempt, work)
        except psycopg.Error as exc:
            if is_cancelled():
                raise asyncio.CancelledError from exc
            if isinstance(exc, (psycopg.errors.InsufficientPrivilege, psycopg.errors.InvalidSchemaName)):
                remedy = "grant this role the rights that docs/deploy.md lists"
                raise DatabaseError(f"PostgreSQL: {first_line(exc)}: {remedy}") from exc
            if not isinstance(exc, (psycopg.OperationalError, psycopg.InternalError, psycopg.NotSupportedError)):
                raise
            transient = is_transient(exc)
            retried = f" (retried for {time.monotonic() - started:.0f} s)" if transient and self._report else ""
            message = f"PostgreSQL: {first_line(exc)}{retried}"
            raise DatabaseError(message, transient=transient, retry_after=1.0) from exc
        if is_cancelled():
            raise asyncio.CancelledError
        return result

    async def _attempt(self, work: Work[T]) -> T:
        with timed("db"):
            try:
                async with self._pool.connection(await self._time_to_wait()) as conn:
                    result = await work(conn)
                    self._last_used[conn] = time.monotonic()
                    return result
            except PoolTimeout as exc:
                raise psycopg.OperationalError(self._connect_error or "all connections are in use") from exc

    async def _time_to_wait(self) -> float:
        """Return the seconds to wait for a connection: few if the last attempt to connect was refused for good."""
        if not self._tried_to_connect.is_set():
            with suppress(TimeoutError):
                async with asyncio.timeout(self._checkout_timeout):
                    await self._tried_to_connect.wait()
        return _REFUSED_CHECKOUT_TIMEOUT if _CANNOT_PASS.search(self._connect_error) else self._checkout_timeout

    def _record_outcome(self, error: str) -> None:
        self._connect_error = error
        self._tried_to_connect.set()
        if error and not _CANNOT_PASS.search(error):
            self._report_retry(psycopg.OperationalError(error))

    async def _check(self, conn: Connection) -> None:
        """Raise unless the connection works; otherwise callers would get dead connections after a server restart.

        A connection that worked a moment ago is not checked, to save a round trip: if it died since, work is retried.
        """
        if time.monotonic() - self._last_used.get(conn, -math.inf) > _CHECK_AFTER_IDLE:
            await AsyncConnectionPool.check_connection(conn)

    def _report_retry(self, error: BaseException) -> None:
        log.info("waiting for PostgreSQL: %s", first_line(error))
        if self._report:
            self._report(f"waiting for PostgreSQL: {first_line(error)}")


def first_line(error: BaseException | None) -> str:
    """Return the first line of an error's message."""
    lines = str(error).strip().splitlines()
    return lines[0] if lines else type(error).__name__
