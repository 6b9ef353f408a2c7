"""Limits per client: on what it does at the same time, and on the paid model calls that it causes."""

import asyncio
import ipaddress
import math
from contextvars import ContextVar
from dataclasses import dataclass
from weakref import WeakValueDictionary

from starlette.types import Scope

from server.problem import Problem
from shared.db.pool import Connection, Database
from shared.embedders.base import Embedder
from shared.sql import rate_limits

# The client of the request being served.
client: ContextVar[str] = ContextVar("client", default="unknown")


def client_of(scope: Scope) -> str:
    """Return the client of a request: its IPv4 address, or its IPv6 /64 network, since a customer has a whole one.

    A socket for both protocols reports IPv4 clients by IPv6 addresses, which would all be in one network.
    """
    host = scope["client"][0] if scope.get("client") else "unknown"
    try:
        address = ipaddress.IPv6Address(host.partition("%")[0])
    except ValueError:
        return str(host)[:64]  # a proxy may forward anything
    return str(address.ipv4_mapped or ipaddress.ip_network((address, 64), strict=False))


class ClientSlots:
    """Limit on how many things of one kind each client does at the same time in this process."""

    def __init__(self, per_client: int) -> None:
        self._per_client = per_client
        self._semaphores: WeakValueDictionary[str, asyncio.Semaphore] = WeakValueDictionary()

    def semaphore(self) -> asyncio.Semaphore:
        """Return the semaphore of the current client."""
        return self._semaphores.setdefault(client.get(), asyncio.Semaphore(self._per_client))


@dataclass(frozen=True)
class PaidQueries:
    """The budget of paid model calls for queries: an hourly limit for all clients together and one per client.

    The budget lives in the database, so that all servers and worker processes share it.
    """

    database: Database
    per_hour: int
    per_hour_and_client: int

    async def spend(self, embedder: Embedder) -> None:
        """Count a call of *embedder* for the current client, if it costs money; raise a 429 when a limit is reached."""
        if embedder.price_per_image:
            await self.database.run(self._take, client.get())

    async def _take(self, conn: Connection, client_name: str) -> None:
        # Always in this order, so that two transactions cannot deadlock. An error rolls the first back.
        for name, per_hour, who in (
            (f"client {client_name}", self.per_hour_and_client, "you"),
            ("all", self.per_hour, "all users of this server together"),
        ):
            wait = await rate_limits.spend(conn, name, per_hour=per_hour)
            if wait is not None:
                seconds = max(1, math.ceil(wait.total_seconds()))
                raise Problem(
                    429,
                    f"{who} may search for {per_hour} new texts or pictures an hour, since each costs money: try again"
                    f" in {seconds} s; repeated texts and similar images still work",
                    headers={"Retry-After": str(seconds)},
                )
        await rate_limits.delete_full(conn)
