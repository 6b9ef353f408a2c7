"""The timeline: how many images were taken in each month."""

from shared.db.pool import Connection
from shared.models import Collection, Filters, MonthCount
from shared.sql import fetch_all
from shared.sql.filters import condition


async def months(conn: Connection, collection: Collection, filters: Filters) -> list[MonthCount]:
    """Return the months in which images that pass the filters were taken, latest first, those without a date last.

    Without filters it scans a whole index, which takes some tenths of a second for a million images.
    """
    where, values = condition(filters)
    statement = f"""
        SELECT to_char(counted.month, 'YYYY-MM') AS month, count, first, last
          FROM (SELECT date_trunc('month', i.taken_local) AS month, count(*) AS count,
                       min(i.taken_at) AS first, max(i.taken_at) AS last
                  FROM {{images}} AS i WHERE {where} GROUP BY 1) AS counted
         ORDER BY counted.month DESC NULLS LAST
    """  # noqa: S608 - constants
    return await fetch_all(conn, collection, MonthCount, statement, values)
