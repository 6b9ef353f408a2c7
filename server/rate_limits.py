"""Bounds on what strangers can spend.

A text or picture that a model which charges has never seen costs money; a known one costs nothing.
"""

import ipaddress
import math
from contextvars import ContextVar

from starlette.types import Scope

from server.schemas.errors import Problem
from shared.db.pool import Connection, Database
from shared.sql import rate_limits

# Who sent the request that is being served.
client: ContextVar[str] = ContextVar("client", default="unknown")


def client_of(scope: Scope) -> str:
    """Return who sent a request: its address, or of IPv6 the network of which one customer has all addresses."""
    host = scope["client"][0] if scope.get("client") else "unknown"
    if ":" not in host:
        return str(host)
    try:
        return str(ipaddress.ip_network((host.partition("%")[0], 64), strict=False))
    except ValueError:
        return str(host)


class PaidQueries:
    """The budget of model calls for queries: so many an hour in all, and so many for each client.

    It is kept in the database, or every copy and every process of the server would have one of its own.
    """

    def __init__(self, database: Database, *, per_hour: int, per_hour_and_client: int) -> None:
        self._database = database
        self._per_hour = per_hour
        self._per_hour_and_client = per_hour_and_client

    async def spend(self) -> None:
        """Count one call for the client whose request is being served; raise a 429 when it, or all, have had enough."""
        who = client.get()

        async def take(conn: Connection) -> None:
            # Always in this order, so that no two wait for each other. What is raised also gives back the first.
            for name, per_hour, words in (
                (f"client {who}", self._per_hour_and_client, "you"),
                ("all", self._per_hour, "all who use this server"),
            ):
                wait = await rate_limits.spend(conn, name, per_hour=per_hour)
                if wait is not None:
                    seconds = max(1, math.ceil(wait.total_seconds()))
                    raise Problem(
                        429,
                        f"{words} may search for {per_hour} new texts or pictures an hour, since each costs money: try"
                        f" again in {seconds} s; texts that were searched for before and similar images go on working",
                        headers={"Retry-After": str(seconds)},
                    )
            await rate_limits.forget_full(conn)

        await self._database.run(take)
