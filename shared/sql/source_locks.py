"""Who brings a source's files over: one process at a time, by a lease that it renews."""

from collections.abc import Sequence
from datetime import timedelta
from typing import Any
from uuid import UUID

from psycopg import AsyncConnection

AT_WORK, NEXT = 0, 1


async def take(
    conn: AsyncConnection[Any],
    source: int,
    position: int,
    holder: UUID,
    *,
    duration: timedelta,
    ended: Sequence[UUID] = (),
) -> UUID:
    """Take or renew a turn at the source if it is free, and return who has it.

    It is free when its lease is over, and when it is one of *ended* that holds it.
    """
    parameters = {"source": source, "position": position, "holder": holder, "duration": duration, "ended": list(ended)}
    await conn.execute(
        """
        INSERT INTO source_locks AS held (source_id, position, holder, expires_at)
        VALUES (%(source)s, %(position)s, %(holder)s, now() + %(duration)s)
        ON CONFLICT (source_id, position) DO UPDATE SET holder = excluded.holder, expires_at = excluded.expires_at
         WHERE held.holder = excluded.holder OR held.holder = ANY(%(ended)s)
            OR held.expires_at <= excluded.expires_at - %(duration)s
        """,
        parameters,
    )
    query = "SELECT holder FROM source_locks WHERE source_id = %(source)s AND position = %(position)s"
    row = await (await conn.execute(query, parameters)).fetchone()
    # Whoever had it can give it back in between.
    return row[0] if row else await take(conn, source, position, holder, duration=duration, ended=ended)


async def release(conn: AsyncConnection[Any], source: int, holder: UUID, *, positions: Sequence[int]) -> None:
    """Give back those of *turns* at the source that *holder* has."""
    await conn.execute(
        "DELETE FROM source_locks WHERE source_id = %s AND holder = %s AND position = ANY(%s)",
        [source, holder, list(positions)],
    )
