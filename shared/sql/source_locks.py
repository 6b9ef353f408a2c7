"""Locks on sources: leases that their owners renew."""

from collections.abc import Sequence
from datetime import timedelta
from uuid import UUID

from shared.db.pool import Connection

ACTIVE, QUEUED = 0, 1


async def take(
    conn: Connection,
    source: int,
    position: int,
    owner: UUID,
    *,
    duration: timedelta,
    ended: Sequence[UUID] = (),
) -> UUID:
    """Take or renew the lock at *position* if it is free, and return its owner.

    It is free if its lease has expired, or if its owner is one of *ended*.
    """
    parameters = {"source": source, "position": position, "owner": owner, "duration": duration, "ended": list(ended)}
    statement = """
        INSERT INTO source_locks AS held (source_id, position, owner, expires_at)
        VALUES (%(source)s, %(position)s, %(owner)s, now() + %(duration)s)
        ON CONFLICT (source_id, position) DO UPDATE SET owner = excluded.owner, expires_at = excluded.expires_at
         WHERE held.owner = excluded.owner OR held.owner = ANY(%(ended)s)
            OR held.expires_at <= excluded.expires_at - %(duration)s
    """
    await conn.execute(statement, parameters)
    query = "SELECT owner FROM source_locks WHERE source_id = %(source)s AND position = %(position)s"
    row = await (await conn.execute(query, parameters)).fetchone()
    # The owner may have released it between the two statements.
    return row[0] if row else await take(conn, source, position, owner, duration=duration, ended=ended)


async def release(conn: Connection, source: int, owner: UUID, *, positions: Sequence[int]) -> None:
    """Release the locks that *owner* has at these positions."""
    statement = "DELETE FROM source_locks WHERE source_id = %s AND owner = %s AND position = ANY(%s)"
    await conn.execute(statement, [source, owner, list(positions)])
