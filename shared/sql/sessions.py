"""Browsers that are signed in."""

from datetime import timedelta
from uuid import UUID

from shared.db.pool import Connection
from shared.sql import fetch_value


async def start(conn: Connection, session: UUID, token_digest: bytes, *, lifetime: timedelta) -> None:
    """Store a session of the token with this digest, and delete expired ones."""
    await conn.execute("DELETE FROM sessions WHERE expires_at < clock_timestamp()")
    statement = """
        INSERT INTO sessions (id, token_digest, expires_at) VALUES (%s, %s, clock_timestamp() + %s)
        ON CONFLICT DO NOTHING
    """
    await conn.execute(statement, [session, token_digest, lifetime])


async def token_digest(conn: Connection, session: UUID) -> bytes | None:
    """Return the digest of the token that started *session*, or None if it has ended."""
    statement = "SELECT token_digest FROM sessions WHERE id = %s AND expires_at > clock_timestamp()"
    digest: bytes | None = await fetch_value(conn, None, statement, [session])
    return digest


async def end(conn: Connection, session: UUID) -> None:
    """Delete *session*."""
    await conn.execute("DELETE FROM sessions WHERE id = %s", [session])
