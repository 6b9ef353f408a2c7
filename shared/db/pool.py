"""Connections to PostgreSQL, and what to do when they break."""

import asyncio
import logging
import math
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, replace
from itertools import count
from typing import Any, Concatenate, ParamSpec, TypeVar
from weakref import WeakKeyDictionary

import psycopg
from psycopg import AsyncConnection
from psycopg_pool import AsyncConnectionPool, PoolTimeout

from shared.errors import DatabaseError
from shared.retry import DATABASE
from shared.timing import spent_on

log = logging.getLogger(__name__)

P = ParamSpec("P")
T = TypeVar("T")
Connection = AsyncConnection[Any]
Work = Callable[[Connection], Awaitable[T]]

# Shut down, starting up, too many connections, deadlock, serialisation, lock or statement timeout of our own making.
_TRANSIENT = {"57P01", "57P02", "57P03", "53300", "40001", "40P01", "55P03", "57014", "25P03", "25P04", "25006"}


def is_transient(error: BaseException) -> bool:
    """Whether *error* says that the database is away or busy, so that the same work may succeed later.

    Every failure to connect and every broken connection comes without an SQLSTATE (measured with psycopg 3.3).
    """
    if not isinstance(error, (psycopg.OperationalError, psycopg.InternalError)):
        return False
    return error.sqlstate is None or error.sqlstate in _TRANSIENT or error.sqlstate.startswith("08")


_CONNECT: dict[str, Any] = {
    "prepare_threshold": None,  # until it is known where the connection leads
    "connect_timeout": 10,
    # A server that vanished without a word, as in a failover, is noticed within a minute, not after fifteen.
    "keepalives_idle": 30,
    "keepalives_interval": 10,
    "keepalives_count": 3,
    "tcp_user_timeout": 60_000,  # milliseconds
}


# For so long a replica that failed is not asked again, and so long at most a request waits for one that is away.
_REPLICA_REST = 5.0  # seconds
_REPLICA_PATIENCE = 1.0  # seconds

_SURELY_ALIVE = 1.0  # seconds since a connection worked

_PREPARED_AFTER = 2  # executions on a connection

# A prepared statement that is not there, or already is (a pooler gave the connection another session), or whose columns
# have other types by now (a table was altered).
_MISPREPARED = (
    psycopg.errors.InvalidSqlStatementName,
    psycopg.errors.DuplicatePreparedStatement,
    psycopg.errors.FeatureNotSupported,
)


@dataclass(frozen=True)
class Usage:
    """A pool at one moment: its connections, and how much work waits for one."""

    in_use: int
    idle: int
    waiting: int


class Database:
    """A pool of connections that works through poolers in transaction mode and outlives the server's restarts.

    With *replicas* work that only reads can go to them.
    """

    def __init__(
        self,
        url: str,
        *,
        max_connections: int,
        retry_timeout: float,
        checkout_timeout: float = 10.0,
        waiting: Callable[[str], None] | None = None,
        replicas: Sequence[str] = (),
    ) -> None:
        """Retry for *retry_timeout* seconds while the database is unavailable, calling *waiting* with the reason."""
        self._replicas = [
            Database(address, max_connections=max_connections, retry_timeout=0, checkout_timeout=_REPLICA_PATIENCE)
            for address in replicas
        ]
        self._turn = count()
        self._used: WeakKeyDictionary[AsyncConnection[Any], float] = WeakKeyDictionary()
        self._rests_until = 0.0
        self._prepares = True
        self._retry_timeout = retry_timeout
        self._waiting = waiting
        self._pool: AsyncConnectionPool[AsyncConnection[Any]] = AsyncConnectionPool(
            url,
            min_size=1,
            max_size=max_connections,
            timeout=checkout_timeout,
            open=False,
            kwargs={**_CONNECT, "autocommit": True, "application_name": "image-browser"},
            configure=self._configure,
            check=self._check,
            reconnect_timeout=30,
        )

    async def open(self) -> None:
        """Start the pool; it connects in the background, so that a server starts without its database."""
        # The pool reports every failed attempt to connect; what matters of that reaches the caller as DatabaseError.
        logging.getLogger("psycopg.pool").setLevel(logging.ERROR)
        for database in (self, *self._replicas):
            await database._pool.open(wait=False)

    async def close(self) -> None:
        """Close all connections."""
        for database in (self, *self._replicas):
            await database._pool.close()

    def usage(self) -> dict[str, Usage]:
        """Return how the pools of ``primary``, ``replica-1``, … are used at this moment."""
        names = ["primary", *(f"replica-{number + 1}" for number in range(len(self._replicas)))]
        return {name: each._usage() for name, each in zip(names, (self, *self._replicas), strict=True)}

    async def run(
        self, work: Callable[Concatenate[Connection, P], Awaitable[T]], *args: P.args, **kwargs: P.kwargs
    ) -> T:
        """Return ``work(connection, *args, **kwargs)``, run inside one transaction.

        While the database is away the whole of *work* is tried again, so it must be safe to repeat: also when the
        connection broke while committing, and the first try did commit. Raises DatabaseError when retry_timeout ends,
        and at once for what cannot pass; psycopg's other errors (a violated constraint) come through.
        """
        return await self._persist(self._once, lambda conn: work(conn, *args, **kwargs))

    async def _persist(self, once: Callable[[Work[T]], Awaitable[T]], work: Work[T]) -> T:
        """Return what *once* makes of *work*, tried again while the database is away."""
        task = asyncio.current_task()
        cancelled_before = task.cancelling() if task else 0

        def is_cancelled() -> bool:
            # CancelledError does not always arrive. psycopg cancels the statement under way, too: should it hit the
            # next one instead, that one's error takes its place. And until Python 3.12 wait_for(), with which the pool
            # waits for a connection, may swallow it. Whoever cancelled the work would wait for ever.
            return task is not None and task.cancelling() > cancelled_before

        def may_pass(error: BaseException) -> bool:
            return is_transient(error) and not is_cancelled()

        try:
            policy = replace(DATABASE, timeout=self._retry_timeout, is_transient=may_pass, on_retry=self._report_retry)
            result = await policy.run(once, work)
        except psycopg.Error as exc:
            if is_cancelled():
                raise asyncio.CancelledError from exc
            if not isinstance(exc, (psycopg.OperationalError, psycopg.InternalError)):
                raise
            transient = is_transient(exc)
            raise DatabaseError(f"PostgreSQL: {first_line(exc)}", transient=transient, retry_after=1.0) from exc
        if is_cancelled():
            raise asyncio.CancelledError
        return result

    async def read(
        self, work: Callable[Concatenate[Connection, P], Awaitable[T]], *args: P.args, **kwargs: P.kwargs
    ) -> T:
        """The same for *work* that only reads, and for which a state of some moments ago will do: a replica may answer.

        There is no transaction, which would cost two more round trips: each statement sees what was committed when it
        began. Replicas take turns. One that fails is passed over for a while; when none is left, the primary answers.
        """
        first = next(self._turn)
        for number in range(len(self._replicas)):
            replica = self._replicas[(first + number) % len(self._replicas)]
            if replica._rests_until > time.monotonic():
                continue
            try:
                return await replica._persist(replica._read_once, lambda conn: work(conn, *args, **kwargs))
            except psycopg.Error as exc:
                log.warning("a read replica failed, maybe it is behind: %s", first_line(exc))
            except DatabaseError as exc:
                replica._rests_until = time.monotonic() + _REPLICA_REST
                log.warning("a read replica is passed over for %.0f s: %s", _REPLICA_REST, exc)
        return await self._persist(self._read_once, lambda conn: work(conn, *args, **kwargs))

    async def _once(self, work: Work[T]) -> T:
        async def whole(conn: Connection) -> T:
            async with conn.transaction():
                return await work(conn)

        return await self._read_once(whole)

    async def _read_once(self, work: Work[T]) -> T:
        with spent_on("db"):
            async with self._pool.connection() as conn:
                if not self._prepares:
                    conn.prepare_threshold = None
                try:
                    result = await work(conn)
                except _MISPREPARED as exc:
                    if conn.prepare_threshold is None:
                        raise
                    await self._unprepare(conn, exc)
                    result = await work(conn)
                self._used[conn] = time.monotonic()
                return result

    async def _configure(self, conn: Connection) -> None:
        """Let statements be prepared on a new connection, which spares parsing them, if it leads to one session alone.

        A pooler in transaction mode gives each transaction any session, where other statements, or none, have been
        prepared. It has to name a process to whoever connects before there is a session, and so names another one.
        """
        row = await (await conn.execute("SELECT pg_backend_pid()")).fetchone()
        if row == (conn.info.backend_pid,):
            # A plan made once for all values, without knowing limits, filters or cursors, would be a bad one.
            await conn.execute("SET plan_cache_mode = force_custom_plan")
            conn.prepare_threshold = _PREPARED_AFTER

    async def _unprepare(self, conn: Connection, error: psycopg.Error) -> None:
        """Forget what was prepared on the connection; for good, and on all, where a pooler must be the reason."""
        if isinstance(error, psycopg.errors.FeatureNotSupported):
            await conn.execute("DEALLOCATE ALL")
        else:
            log.info("statements are not prepared any more: %s", first_line(error))
            self._prepares = False
            conn.prepare_threshold = None

    async def _check(self, conn: AsyncConnection[Any]) -> None:
        """Find out whether the connection still works, before it is handed out.

        Without, the first checkouts after a restart of the server would get dead connections. One that worked a moment
        ago is not asked, which would cost each piece of work a round trip: should it be dead, the work is tried again.
        """
        if time.monotonic() - self._used.get(conn, -math.inf) > _SURELY_ALIVE:
            await AsyncConnectionPool.check_connection(conn)

    def _usage(self) -> Usage:
        figures = self._pool.get_stats()
        idle = figures["pool_available"]
        return Usage(figures["pool_size"] - idle, idle, figures["requests_waiting"])

    def _report_retry(self, error: BaseException) -> None:
        log.info("waiting for PostgreSQL: %s", first_line(error))
        if self._waiting:
            self._waiting(f"waiting for PostgreSQL: {first_line(error)}")


def is_one_session(conn: Connection) -> bool:
    """Whether all statements on the connection surely reach one session of one server, as no pooler stands between."""
    return conn.prepare_threshold is not None


def first_line(error: BaseException | None) -> str:
    """Return the first line of an error's text, which is all of it that fits into a sentence."""
    if isinstance(error, PoolTimeout):  # the pool keeps to itself what went wrong
        return "no connection to be had: `syncer doctor` says why"
    lines = str(error).strip().splitlines()
    return lines[0] if lines else type(error).__name__


async def check(url: str) -> str:
    """Return PostgreSQL's and pgvector's versions as one sentence; raise DatabaseError saying what is wrong."""
    started = time.monotonic()
    try:
        async with asyncio.timeout(15), await AsyncConnection.connect(url, **_CONNECT) as conn:
            row = await (
                await conn.execute(
                    "SELECT current_setting('server_version_num')::int, current_setting('server_version'),"
                    " coalesce((SELECT extversion FROM pg_extension WHERE extname = 'vector'),"
                    "          (SELECT default_version FROM pg_available_extensions WHERE name = 'vector'))"
                )
            ).fetchone()
    except TimeoutError as exc:
        raise DatabaseError(f"PostgreSQL did not answer in {time.monotonic() - started:.0f} s", transient=True) from exc
    except psycopg.Error as exc:
        raise DatabaseError(f"PostgreSQL: {first_line(exc)}", transient=is_transient(exc)) from exc
    assert row is not None
    number, version, vector = row
    if number < 150000:
        raise DatabaseError(f"PostgreSQL {version} is too old: 15 or newer is needed", transient=False)
    if vector is None:
        raise DatabaseError("PostgreSQL has no pgvector: install its package, 0.8.0 or newer", transient=False)
    if tuple(int(part) for part in vector.split(".")[:2]) < (0, 8):
        raise DatabaseError(f"pgvector {vector} is too old: 0.8.0 or newer is needed", transient=False)
    return f"PostgreSQL {version}, pgvector {vector}"
