"""What may be spent: budgets that fill up with time, shared by all servers."""

from datetime import timedelta
from typing import Any

from psycopg import AsyncConnection


async def spend(conn: AsyncConnection[Any], name: str, *, per_hour: int) -> timedelta | None:
    """Take one from the budget *name*, which holds *per_hour* and fills up by as many in an hour.

    Return None, or, when the budget is used up, the time after which it holds one again; nothing is taken then.

    The generic cell rate algorithm (ITU-T I.371): of a budget only the moment is kept at which it will be full again.
    The clock is the database's, since servers' clocks differ.
    """
    values = {"name": name, "each": timedelta(hours=1) / per_hour, "hour": timedelta(hours=1)}
    taken = await conn.execute(
        """
        INSERT INTO rate_limits AS known (name, full_at) VALUES (%(name)s, clock_timestamp() + %(each)s)
        ON CONFLICT (name) DO UPDATE SET full_at = greatest(known.full_at, clock_timestamp()) + %(each)s
         WHERE known.full_at + %(each)s <= clock_timestamp() + %(hour)s
        """,
        values,
    )
    if taken.rowcount:
        return None
    cur = await conn.execute(
        "SELECT full_at + %(each)s - %(hour)s - clock_timestamp() FROM rate_limits WHERE name = %(name)s", values
    )
    row = await cur.fetchone()
    return max(row[0], timedelta()) if row else timedelta()


async def delete_full(conn: AsyncConnection[Any]) -> None:
    """Remove the budgets that are full: one that is not kept is full too."""
    # Who is at one of them keeps it.
    await conn.execute(
        "DELETE FROM rate_limits WHERE name IN"
        " (SELECT name FROM rate_limits WHERE full_at < clock_timestamp() FOR UPDATE SKIP LOCKED)"
    )
