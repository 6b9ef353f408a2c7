"""Brings the database to the form that the code expects: numbered SQL files, each run once, in its own transaction."""

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, LiteralString

from psycopg import AsyncConnection
from psycopg.sql import SQL, Composable, Identifier, Literal

from shared.db import table_names
from shared.errors import DatabaseError

MIGRATIONS = Path(__file__).parents[2] / "migrations"

# One number for all of our advisory locks: whoever migrates or makes a collection does it alone. The lock ends with
# its transaction, since a pooler in transaction mode would leave a session's lock to strangers.
LOCK = 0x1AB01


@dataclass(frozen=True)
class Migration:
    """One SQL file. ``digest`` tells whether the file was edited after it was applied."""

    version: int
    name: str
    text: LiteralString

    @property
    def digest(self) -> str:
        return hashlib.sha256(self.text.encode()).hexdigest()


def load(folder: Path) -> list[Migration]:
    """Return the migrations of *folder* in order."""
    files = sorted(folder.glob("[0-9][0-9][0-9][0-9]_*.sql"))
    return [Migration(int(f.name[:4]), f.stem, f.read_text(encoding="utf-8")) for f in files]


async def lock(conn: AsyncConnection[Any]) -> None:
    """Wait until no other process migrates, until the end of the transaction."""
    await conn.execute("SELECT pg_advisory_xact_lock(%s)", [LOCK])


async def migrate(conn: AsyncConnection[Any]) -> list[str]:
    """Apply what is missing, to the shared tables and to every collection's; return the names of what was applied.

    Runs in the caller's transaction, so that a failure leaves everything as it was.
    Raises DatabaseError when an applied file was edited or the database is newer than the code.
    """
    await lock(conn)
    await conn.execute(
        "CREATE TABLE IF NOT EXISTS schema_migrations"
        " (version integer PRIMARY KEY, digest text NOT NULL, applied_at timestamptz NOT NULL)"
    )
    applied = dict(await (await conn.execute("SELECT version, digest FROM schema_migrations")).fetchall())
    done = []
    for migration in missing(load(MIGRATIONS), applied):
        await conn.execute(migration.text)
        await conn.execute(
            "INSERT INTO schema_migrations VALUES (%s, %s, %s)",
            [migration.version, migration.digest, datetime.now(UTC)],
        )
        done.append(migration.name)
    for bucket, dimensions in await (await conn.execute("SELECT bucket, dimensions FROM collections")).fetchall():
        done += [f"{name} of {bucket}" for name in await migrate_collection(conn, bucket, dimensions)]
    return done


async def pending(conn: AsyncConnection[Any]) -> list[str] | None:
    """Return the names of the migrations that ``migrate`` would apply; None for a database that was never migrated."""
    cur = await conn.execute("SELECT to_regclass('schema_migrations') IS NULL")
    if await cur.fetchone() == (True,):
        return None
    applied = dict(await (await conn.execute("SELECT version, digest FROM schema_migrations")).fetchall())
    waiting = [migration.name for migration in missing(load(MIGRATIONS), applied)]
    if waiting:
        return waiting
    for (bucket,) in await (await conn.execute("SELECT bucket FROM collections")).fetchall():
        query = "SELECT version, digest FROM collection_migrations WHERE bucket = %s"
        applied = dict(await (await conn.execute(query, [bucket])).fetchall())
        waiting += [f"{m.name} of {bucket}" for m in missing(load(MIGRATIONS / "collection"), applied)]
    return waiting


async def migrate_collection(conn: AsyncConnection[Any], bucket: str, dimensions: int) -> list[str]:
    """Bring one collection's tables to the form of the template, making them where there are none."""
    query = "SELECT version, digest FROM collection_migrations WHERE bucket = %s"
    applied = dict(await (await conn.execute(query, [bucket])).fetchall())
    done = []
    for migration in missing(load(MIGRATIONS / "collection"), applied):
        # A template's braces are placeholders of psycopg.sql, which quotes what it fills in.
        template = SQL(migration.text)
        await conn.execute(template.format(**template_values(bucket, dimensions)))
        await conn.execute(
            "INSERT INTO collection_migrations VALUES (%s, %s, %s, %s)",
            [bucket, migration.version, migration.digest, datetime.now(UTC)],
        )
        done.append(migration.name)
    return done


def template_values(bucket: str, dimensions: int) -> dict[str, Composable]:
    """Return what the placeholders of the collection template stand for."""
    base = table_names.base_name(bucket)
    values: dict[str, Composable] = {
        name: Identifier(f"{base}_{suffix}") for name, suffix in table_names.SUFFIXES.items()
    }
    return values | {"dimensions": Literal(dimensions), "counts_name": Literal(f"{base}_counts")}


def missing(migrations: list[Migration], applied: dict[int, str]) -> Iterator[Migration]:
    """Yield the migrations that are not applied yet; raise DatabaseError when the applied ones are not ours."""
    unknown = set(applied) - {m.version for m in migrations}
    if unknown:
        raise DatabaseError(
            f"the database has migration {max(unknown)}, which this version of Image Browser does not know:"
            " run the newer version",
            transient=False,
        )
    for migration in migrations:
        if migration.version not in applied:
            yield migration
        elif applied[migration.version] != migration.digest:
            raise DatabaseError(
                f"migration {migration.name} was edited after it was applied: restore the file and add a new migration",
                transient=False,
            )
