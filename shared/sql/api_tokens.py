"""API tokens that are kept in the database, as digests."""

import hashlib
from dataclasses import dataclass
from datetime import datetime

from shared.db.pool import Connection
from shared.sql import fetch_all, fetch_one, fetch_value


@dataclass(frozen=True)
class ApiToken:
    """A token for one *bucket*, or for all if None. *last_used_at* is exact to a minute."""

    name: str
    bucket: str | None
    writes: bool
    created_at: datetime
    last_used_at: datetime | None


def digest_of(token: str) -> bytes:
    """Return the SHA-256 of *token*. Tokens are random, so a slow hash would add nothing."""
    return hashlib.sha256(token.encode()).digest()


async def add(conn: Connection, name: str, digest: bytes, *, bucket: str | None, writes: bool) -> bool:
    """Store a token; return False if another one has this name."""
    statement = """
        INSERT INTO api_tokens (name, digest, bucket, writes, created_at)
        VALUES (%(name)s, %(digest)s, %(bucket)s, %(writes)s, clock_timestamp()) ON CONFLICT (name) DO NOTHING
    """
    await conn.execute(statement, {"name": name, "digest": digest, "bucket": bucket, "writes": writes})
    stored = await fetch_value(conn, None, "SELECT digest FROM api_tokens WHERE name = %s", [name])
    return bool(stored == digest)


async def list_all(conn: Connection) -> list[ApiToken]:
    """Return all tokens by name."""
    statement = "SELECT name, bucket, writes, created_at, last_used_at FROM api_tokens ORDER BY name"
    return await fetch_all(conn, None, ApiToken, statement)


async def revoke(conn: Connection, name: str) -> bool:
    """Delete the token *name*; return False if there is none."""
    deleted = await conn.execute("DELETE FROM api_tokens WHERE name = %s", [name])
    return deleted.rowcount > 0


async def use(conn: Connection, digest: bytes) -> ApiToken | None:
    """Return the token with this digest, if there is one, and record its use at most once a minute."""
    statement = """
        WITH used AS (
            UPDATE api_tokens SET last_used_at = clock_timestamp()
             WHERE digest = %(digest)s
               AND (last_used_at IS NULL OR last_used_at < clock_timestamp() - interval '1 minute'))
        SELECT name, bucket, writes, created_at, last_used_at FROM api_tokens WHERE digest = %(digest)s
    """
    return await fetch_one(conn, None, ApiToken, statement, {"digest": digest})
