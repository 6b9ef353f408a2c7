"""Rate limits shared by all servers."""

from datetime import timedelta

from shared.db.pool import Connection
from shared.sql import fetch_value


async def spend(conn: Connection, name: str, *, per_hour: int) -> timedelta | None:
    """Take one from the budget *name*, which holds *per_hour* and refills at that rate.

    Return None, or the time until the budget holds one again if it is empty.

    Uses the generic cell rate algorithm (ITU-T I.371): only the time at which the budget will be full again is stored.
    The clock is the database's, since servers' clocks differ.
    """
    values = {"name": name, "each": timedelta(hours=1) / per_hour, "hour": timedelta(hours=1)}
    statement = """
        INSERT INTO rate_limits AS stored (name, full_at) VALUES (%(name)s, clock_timestamp() + %(each)s)
        ON CONFLICT (name) DO UPDATE SET full_at = greatest(stored.full_at, clock_timestamp()) + %(each)s
         WHERE stored.full_at + %(each)s <= clock_timestamp() + %(hour)s
    """
    taken = await conn.execute(statement, values)
    if taken.rowcount:
        return None
    statement = "SELECT full_at + %(each)s - %(hour)s - clock_timestamp() FROM rate_limits WHERE name = %(name)s"
    wait: timedelta | None = await fetch_value(conn, None, statement, values)
    return max(wait or timedelta(), timedelta())


async def delete_full(conn: Connection) -> None:
    """Delete the budgets that are full again: a missing one counts as full."""
    # SKIP LOCKED leaves a budget that another transaction is spending from.
    await conn.execute(
        "DELETE FROM rate_limits WHERE name IN"
        " (SELECT name FROM rate_limits WHERE full_at < clock_timestamp() FOR UPDATE SKIP LOCKED)"
    )
