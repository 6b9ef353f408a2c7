"""Migrations: what is pending, and databases that do not match the files."""

from datetime import UTC, datetime

import pytest

from shared.db import migrate
from shared.db.pool import Database
from shared.errors import DatabaseError
from shared.sql import collections

NOW = datetime(2026, 1, 1, tzinfo=UTC)


async def test_a_database_without_tables_is_recognised(database: Database) -> None:
    await database.run(lambda conn: conn.execute("DROP TABLE schema_migrations"))
    assert await database.run(migrate.pending) is None


async def test_nothing_is_pending_after_a_migration(database: Database) -> None:
    await database.run(collections.ensure, "photos", model="offline-v1", dimensions=3, now=NOW)
    assert await database.run(migrate.pending) == []
    assert await database.run(migrate.migrate) == []


async def test_pending_migrations_of_a_collection_are_named(database: Database) -> None:
    await database.run(collections.ensure, "photos", model="offline-v1", dimensions=3, now=NOW)
    await database.run(lambda conn: conn.execute("DELETE FROM collection_migrations"))
    names = [migration.name for migration in migrate.load(migrate.MIGRATIONS / "collection")]
    assert await database.run(migrate.pending) == [f"{name} of photos" for name in names]


@pytest.mark.parametrize(
    ("statement", "message"),
    [
        (
            "UPDATE schema_migrations SET digest = '' WHERE version = 2",
            "0002_search .* made by an earlier development version.*adopt --reclaim",
        ),
        ("INSERT INTO schema_migrations VALUES (9999, '', now())", "has migration 9999.*upgrade Image Browser"),
    ],
)
async def test_a_database_that_does_not_match_the_files_is_refused(
    database: Database, statement: str, message: str
) -> None:
    await database.run(lambda conn: conn.execute(statement.encode()))
    for work in (migrate.pending, migrate.migrate):
        with pytest.raises(DatabaseError, match=message):
            await database.run(work)
