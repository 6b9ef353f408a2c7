"""Whether anything was written since some former moment: what was read then need not be read again."""

from typing import Any

from psycopg import AsyncConnection


async def now(conn: AsyncConnection[Any]) -> str | None:
    """Return a name for all that is committed; None where it can have none, as while something is being written.

    Where a connection gives one name twice, nothing was committed in any database of the server between the two: each
    transaction that writes takes the next number, and the name holds the first one that was not taken, while all below
    it have ended. That would not do if some were still under way, since a replica does not list these; nor in Citus,
    whose workers count for themselves.

    A server that crashed may give away numbers again that it had lost. Its figures begin anew then, though it has not
    been started anew. With these two times the names of different servers differ, too.
    """
    cur = await conn.execute(
        """
        SELECT concat_ws(' ', snapshot, pg_postmaster_start_time(), pg_stat_get_bgwriter_stat_reset_time())
          FROM pg_current_snapshot() AS snapshot
         WHERE pg_snapshot_xmin(snapshot) = pg_snapshot_xmax(snapshot)
           AND to_regclass('pg_catalog.pg_dist_partition') IS NULL
        """
    )
    row = await cur.fetchone()
    return str(row[0]) if row else None
