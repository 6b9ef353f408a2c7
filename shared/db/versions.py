"""Check the versions of PostgreSQL and pgvector."""

import asyncio

import psycopg
from psycopg import AsyncConnection

from shared.db.pool import CONNECT_OPTIONS, first_line, is_transient
from shared.errors import DatabaseError

_TIMEOUT = 15.0  # seconds


async def check_versions(url: str) -> str:
    """Return the versions of PostgreSQL and pgvector; raise DatabaseError if one is too old or missing."""
    number, version, vector = await _query_versions(url)
    if number < 150000:
        raise DatabaseError(f"PostgreSQL {version} is too old; install 15 or newer")
    if vector is None:
        raise DatabaseError("PostgreSQL has no pgvector; install version 0.8.0 or newer")
    if _parse(vector) < (0, 8):
        raise DatabaseError(f"pgvector {vector} is too old; install 0.8.0 or newer")
    warning = "" if _parse(vector) >= (0, 8, 4) else "; upgrade to 0.8.4, which fixes index corruption"
    return f"PostgreSQL {version}, pgvector {vector}{warning}"


def _parse(version: str) -> tuple[int, ...]:
    return tuple(int(part) for part in version.split("."))


async def _query_versions(url: str) -> tuple[int, str, str | None]:
    try:
        async with asyncio.timeout(_TIMEOUT), await AsyncConnection.connect(url, **CONNECT_OPTIONS) as conn:
            cursor = await conn.execute(
                "SELECT current_setting('server_version_num')::int, current_setting('server_version'),"
                " coalesce((SELECT extversion FROM pg_extension WHERE extname = 'vector'),"
                "          (SELECT default_version FROM pg_available_extensions WHERE name = 'vector'))"
            )
            row = await cursor.fetchone()
    except TimeoutError as exc:
        raise DatabaseError(f"PostgreSQL did not answer within {_TIMEOUT:.0f} s", transient=True) from exc
    except psycopg.Error as exc:
        raise DatabaseError(f"PostgreSQL: {first_line(exc)}", transient=is_transient(exc)) from exc
    assert row is not None
    number, version, vector = row
    return number, version, vector
