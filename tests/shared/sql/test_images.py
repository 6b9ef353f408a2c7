"""The rows that lists by date read."""

from datetime import timedelta

import psycopg

from shared.db.pool import Connection, Database
from shared.models import Collection, Sort
from shared.sql import collections, fetch_value, images
from tests.helpers.filled_collections import BEGIN, fill_database, unit_vectors

COUNT = 3000
LIMIT = 20


async def test_a_page_in_the_middle_of_a_list_reads_few_other_rows(database: Database, database_url: str) -> None:
    await fill_database(database_url, "b", "m", unit_vectors(COUNT, 8, seed=1))
    with psycopg.connect(database_url, autocommit=True) as conn:
        conn.execute("UPDATE b_images SET taken_local = NULL WHERE id > 2000")
        conn.execute("VACUUM ANALYZE b_images")
    [collection] = await database.run(collections.list_all)
    middle = BEGIN + timedelta(hours=1000), 1000
    for sort, after in (
        ("-created", middle),
        ("created", middle),
        ("-taken", middle),
        ("taken", middle),
        ("-taken", (None, 2500)),
        ("taken", (None, 2500)),
        ("-taken", (BEGIN, 0)),
    ):
        assert await database.run(rows_read, collection, sort, after) < 2 * LIMIT, (sort, after)  # type: ignore[arg-type]


async def rows_read(conn: Connection, collection: Collection, sort: Sort, after: tuple[None, int]) -> int:
    """Return how many rows of the images' table a page reads."""
    statement = "SELECT seq_tup_read + idx_tup_fetch FROM pg_stat_xact_user_tables WHERE relname = 'b_images'"
    async with conn.transaction():
        before = await fetch_value(conn, None, statement)
        found = await images.list_sorted(conn, collection, sort=sort, limit=LIMIT, after=after)
        assert len(found) == LIMIT
        read: int = await fetch_value(conn, None, statement) - before
    return read
