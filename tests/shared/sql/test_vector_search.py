"""Query plans of vector searches. tests/server/search/test_ranking.py compares their results with brute force."""

from shared.db.pool import Connection, Database
from shared.models import Filters
from shared.sql import collections, vector_search
from shared.sql.vector_search import VectorQuery
from tests.helpers.filled_collections import fill, unit_vectors

DIMENSIONS = 32


async def test_index_searches_scan_the_hnsw_index_without_sorting_or_joining(database: Database) -> None:
    await database.run(fill, "b", "m", unit_vectors(1500, DIMENSIONS, seed=3))
    collection = await database.run(collections.find, "b")
    assert collection is not None
    vector = unit_vectors(1, DIMENSIONS, seed=1)[0].astype(float).tolist()
    plans: list[str] = []

    async def explain(conn: Connection) -> None:
        await conn.execute("LOAD 'auto_explain'")
        await conn.execute("SET LOCAL auto_explain.log_min_duration = 0; SET LOCAL client_min_messages = log")
        conn.add_notice_handler(lambda notice: plans.append(notice.message_primary or ""))
        for filters in (Filters(), Filters(camera=("pinhole 1",)), Filters(folder=("2024",), min_width=2)):
            query = VectorQuery(vector, filters=filters, exclude=[7])
            await vector_search.rank(conn, collection, query, limit=10, ef_search=100)

    await database.run(explain)
    searches = [plan.split("CTE nearest")[1].split("\n  ->")[0] for plan in plans if "CTE nearest" in plan]
    assert len(searches) == 3
    for plan in searches:
        assert "Index Scan using b_hnsw on b_embeddings" in plan
        assert "Sort" not in plan
        assert "Join" not in plan
