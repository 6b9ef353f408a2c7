"""Database migrations: numbered SQL files, each applied once, all in one transaction.

``migrations/`` holds the files for shared tables, ``migrations/collection/`` the templates for a collection's tables.
"""

import hashlib
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, LiteralString

from psycopg import AsyncConnection
from psycopg.sql import SQL, Composable, Literal

from shared.db import table_names
from shared.errors import DatabaseError

MIGRATIONS = Path(__file__).parents[2] / "migrations"

# Advisory lock for changes to the schema. It ends with the transaction: behind a pooler in transaction mode, a session
# lock would pass to other clients.
LOCK = 0x1AB01


@dataclass(frozen=True)
class Migration:
    """One SQL file. ``digest`` detects files that were edited after they were applied."""

    version: int
    name: str
    text: LiteralString

    @property
    def digest(self) -> str:
        return hashlib.sha256(self.text.encode()).hexdigest()


def load(folder: Path) -> list[Migration]:
    """Return the migrations in *folder* in order."""
    files = sorted(folder.glob("[0-9][0-9][0-9][0-9]_*.sql"))
    return [Migration(int(f.name[:4]), f.stem, f.read_text(encoding="utf-8")) for f in files]


async def lock(conn: AsyncConnection[Any]) -> None:
    """Hold the schema lock until the end of the transaction; wait while another process holds it."""
    await conn.execute("SELECT pg_advisory_xact_lock(%s)", [LOCK])


async def migrate(conn: AsyncConnection[Any]) -> list[str]:
    """Apply pending migrations to the shared tables and to each collection's tables; return their names.

    Runs in the caller's transaction, so a failure changes nothing. Raises DatabaseError when an applied file was edited
    or the database is newer than the code.
    """
    await lock(conn)
    await conn.execute(
        "CREATE TABLE IF NOT EXISTS schema_migrations"
        " (version integer PRIMARY KEY, digest text NOT NULL, applied_at timestamptz NOT NULL)"
    )
    applied = []
    for migration in await _pending_shared(conn):
        await conn.execute(migration.text)
        await conn.execute(
            "INSERT INTO schema_migrations VALUES (%s, %s, %s)",
            [migration.version, migration.digest, datetime.now(UTC)],
        )
        applied.append(migration.name)
    for bucket, dimensions in await (await conn.execute("SELECT bucket, dimensions FROM collections")).fetchall():
        applied += [f"{name} of {bucket}" for name in await migrate_collection(conn, bucket, dimensions)]
    return applied


async def pending(conn: AsyncConnection[Any]) -> list[str] | None:
    """Return the names of the pending migrations, or None for a database that was never migrated."""
    cur = await conn.execute("SELECT to_regclass('schema_migrations') IS NULL")
    if await cur.fetchone() == (True,):
        return None
    if shared := await _pending_shared(conn):
        return [migration.name for migration in shared]
    buckets = await (await conn.execute("SELECT bucket FROM collections")).fetchall()
    return [f"{m.name} of {bucket}" for (bucket,) in buckets for m in await _pending_in_collection(conn, bucket)]


async def is_migrated(conn: AsyncConnection[Any]) -> bool:
    """Return whether the database has our tables; raise DatabaseError if migrations are pending."""
    names = await pending(conn)
    if names:
        raise DatabaseError("the database has an older schema: run `syncer migrate` first")
    return names is not None


async def migrate_collection(conn: AsyncConnection[Any], bucket: str, dimensions: int) -> list[str]:
    """Apply pending migrations to one collection's tables, which the first creates; return their names."""
    applied = []
    for migration in await _pending_in_collection(conn, bucket):
        # Braces in a template are psycopg.sql placeholders, which quote the values.
        template = SQL(migration.text)
        await conn.execute(template.format(**template_values(bucket, dimensions)))
        await conn.execute(
            "INSERT INTO collection_migrations VALUES (%s, %s, %s, %s)",
            [bucket, migration.version, migration.digest, datetime.now(UTC)],
        )
        applied.append(migration.name)
    return applied


async def _pending_shared(conn: AsyncConnection[Any]) -> list[Migration]:
    cur = await conn.execute("SELECT version, digest FROM schema_migrations")
    return _pending(load(MIGRATIONS), dict(await cur.fetchall()))


async def _pending_in_collection(conn: AsyncConnection[Any], bucket: str) -> list[Migration]:
    cur = await conn.execute("SELECT version, digest FROM collection_migrations WHERE bucket = %s", [bucket])
    return _pending(load(MIGRATIONS / "collection"), dict(await cur.fetchall()))


def _pending(migrations: list[Migration], applied: dict[int, str]) -> list[Migration]:
    """Return the migrations not applied yet; raise DatabaseError when the applied ones do not match the files."""
    for migration in migrations:
        if applied.get(migration.version, migration.digest) != migration.digest:
            raise DatabaseError(
                f"migration {migration.name} of the database is not the one of this version: the database was made by"
                " an earlier development version, or the file was edited. Restore the file, or rebuild in a new"
                " database with `syncer sync` or, from the bucket, with `syncer adopt --reclaim`"
            )
    unknown = set(applied) - {migration.version for migration in migrations}
    if unknown:
        raise DatabaseError(
            f"the database has migration {max(unknown)}, which this version of Image Browser does not have:"
            " upgrade Image Browser"
        )
    return [migration for migration in migrations if migration.version not in applied]


def template_values(bucket: str, dimensions: int) -> dict[str, Composable]:
    """Return the values of the placeholders in collection templates."""
    base = table_names.base_name(bucket)
    literals = {"dimensions": Literal(dimensions), "counts_name": Literal(f"{base}_counts")}
    return {**table_names.identifiers(base), **literals}
