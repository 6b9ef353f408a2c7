"""The vector indexes as PostgreSQL gets and shows them."""

import os
from datetime import UTC, datetime

import psycopg
import pytest

from shared.db import migrate
from shared.db.pool import Connection, Database
from shared.errors import SettingsError
from shared.models import Collection, IndexKind
from shared.sql import collections, vector_index, vector_text
from tests.helpers.filled_collections import fill, unit_vectors

NOW = datetime(2026, 1, 1, tzinfo=UTC)
EMBEDDED = "WHERE (embedding IS NOT NULL)"
DEFINITIONS = {
    "hnsw": "CREATE INDEX b_hnsw ON public.b_embeddings USING hnsw (embedding halfvec_ip_ops)"
    f" WITH (m='16', ef_construction='200') {EMBEDDED}",
    "compact": "CREATE INDEX b_compact ON public.b_embeddings USING hnsw"
    f" (((binary_quantize(embedding))::bit(8)) bit_hamming_ops) WITH (m='8', ef_construction='200') {EMBEDDED}",
}


def collection_of(kind: IndexKind) -> Collection:
    return Collection("b", "b", "offline-v1", 8, "b", NOW, kind)


@pytest.mark.parametrize("kind", ["hnsw", "compact"])
async def test_postgresql_shows_the_definition(database: Database, kind: IndexKind) -> None:
    await database.run(collections.ensure, bucket="b", model="offline-v1", dimensions=8, now=NOW)
    await database.run_autocommit(vector_index.drop, collection_of("hnsw"))
    await database.run_autocommit(vector_index.build, collection_of(kind), rows=0)

    async def definitions(conn: Connection) -> list[tuple[str]]:
        statement = (
            "SELECT indexdef FROM pg_indexes WHERE tablename = 'b_embeddings' AND indexdef LIKE '%% USING hnsw %%'"
        )
        return await (await conn.execute(statement)).fetchall()

    assert await database.run(definitions) == [(DEFINITIONS[kind],)]
    assert (await database.run(vector_index.find, collection_of(kind))).state == "ready"


async def test_the_definition_of_vectorchord_has_a_list_for_every_thousand_rows() -> None:
    definition = vector_index.definition(collection_of("vchordrq"), rows=1_000_000).decode()
    assert " ".join(definition.split()) == (
        '"b_vchordrq" ON "b_embeddings" USING vchordrq (embedding halfvec_ip_ops) WITH (options = $$'
        " residual_quantization = false [build.internal] lists = [1000] spherical_centroids = true $$)"
        " WHERE embedding IS NOT NULL"
    )


async def test_vectorchord_is_refused_where_postgresql_lacks_it(database: Database) -> None:
    with pytest.raises(SettingsError, match="no extension vchord"):
        await database.run(vector_index.require_extension, "vchordrq")


@pytest.mark.skipif("TEST_VCHORD_URL" not in os.environ, reason="set TEST_VCHORD_URL to a PostgreSQL with VectorChord")
async def test_vectorchord_finds_the_nearest() -> None:
    vectors = unit_vectors(2000, 64, seed=1)
    async with await psycopg.AsyncConnection.connect(os.environ["TEST_VCHORD_URL"], autocommit=True) as admin:
        await admin.execute("DROP DATABASE IF EXISTS vchord_test WITH (FORCE)")
        await admin.execute("CREATE DATABASE vchord_test")
    address = psycopg.conninfo.make_conninfo(os.environ["TEST_VCHORD_URL"], dbname="vchord_test")
    async with await psycopg.AsyncConnection.connect(address, autocommit=True) as conn:
        await migrate.migrate(conn)
        await fill(conn, "b", "offline-v1", vectors)
        found = await collections.find(conn, "b")
        assert found is not None
        await vector_index.require_extension(conn, "vchordrq")
        collection = Collection(**vars(found) | {"index_kind": "vchordrq"})
        await vector_index.build(conn, collection, rows=len(vectors))
        assert (await vector_index.find(conn, collection)).state == "ready"
        await vector_index.drop_others(conn, collection)
        await conn.execute("SET enable_seqscan = off")
        statement = f"""
            SELECT id FROM b_embeddings AS e WHERE embedding IS NOT NULL
             ORDER BY {vector_index.order("vchordrq")} LIMIT 1
        """
        vector = {"vector": vector_text(vectors[7].astype(float).tolist())}
        plan = await (await conn.execute("EXPLAIN " + statement, vector)).fetchall()
        assert "b_vchordrq" in str(plan)
        assert await (await conn.execute(statement, vector)).fetchone() == (8,)
