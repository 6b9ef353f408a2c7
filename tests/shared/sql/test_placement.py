"""The statements that place vectors, as PostgreSQL and Citus get them."""

from datetime import UTC, datetime

import pytest

from shared.db.pool import Database
from shared.errors import SettingsError
from shared.models import Placement
from shared.sql import collections, placement

NOW = datetime(2026, 1, 1, tzinfo=UTC)
COLUMNS = 'created_at timestamptz NOT NULL, embedding halfvec(8), r2_key text COLLATE "C" NOT NULL'
INLINE = 'ALTER TABLE "my_photos_next" ALTER COLUMN embedding SET STORAGE PLAIN;'


def placed(column: str) -> str:
    return (
        "SET LOCAL citus.multi_shard_modify_mode = 'sequential';"
        f' CREATE TABLE "my_photos_next" ( id bigint PRIMARY KEY, {COLUMNS}, UNIQUE (r2_key, id) ); {INLINE}'
        f" SELECT create_distributed_table('\"my_photos_next\"', {column}, colocate_with := 'none');"
    )


DEFINITIONS: dict[Placement, str] = {
    "local": 'CREATE TABLE "my_photos_next" ( id bigint PRIMARY KEY REFERENCES "my_photos_images" ON DELETE CASCADE,'
    f' {COLUMNS} UNIQUE REFERENCES "my_photos_images" (r2_key) ON UPDATE CASCADE ON DELETE CASCADE ); {INLINE}',
    "worker": placed("NULL"),
    "sharded": placed("'id'"),
}


@pytest.mark.parametrize("name", ["local", "worker", "sharded"])
async def test_the_table_of_vectors_is_created_where_it_belongs(database: Database, name: Placement) -> None:
    collection = await database.run(collections.ensure, "my-photos", model="offline-v1", dimensions=8, now=NOW)
    assert " ".join(placement.definition(collection, name).decode().split()) == DEFINITIONS[name]


async def test_placing_needs_citus(database: Database) -> None:
    collection = await database.run(collections.ensure, "my-photos", model="offline-v1", dimensions=8, now=NOW)
    with pytest.raises(SettingsError, match="placement worker: the database has no Citus; create the extension"):
        await database.run(placement.move, collection, "worker")
