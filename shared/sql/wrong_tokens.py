"""Wrong tokens that clients have tried, counted for all servers together."""

from datetime import timedelta

from shared.db.pool import Connection


async def count(conn: Connection, client: str, *, within: timedelta) -> tuple[int, timedelta]:
    """Return how many different wrong tokens *client* has tried recently, and when the first will be forgotten."""
    statement = """
        SELECT count(*), coalesce(min(tried_at) + %(within)s - clock_timestamp(), interval '0')
          FROM wrong_tokens WHERE client = %(client)s AND tried_at > clock_timestamp() - %(within)s
    """
    cursor = await conn.execute(statement, {"client": client, "within": within})
    number, wait = await cursor.fetchone() or (0, timedelta())
    return number, wait


async def record(conn: Connection, client: str, digest: bytes, *, within: timedelta) -> None:
    """Count a wrong token, given by its digest, and forget old ones. The same token again counts only once."""
    await conn.execute("DELETE FROM wrong_tokens WHERE tried_at < clock_timestamp() - %s", [within])
    statement = """
        INSERT INTO wrong_tokens (client, digest, tried_at) VALUES (%s, %s, clock_timestamp()) ON CONFLICT DO NOTHING
    """
    await conn.execute(statement, [client, digest])
