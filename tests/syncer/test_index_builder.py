"""Builds of the vector index: after a first load, interrupted, by several processes, and of another kind."""

import argparse
import asyncio
import os
import signal
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from pathlib import Path

import psycopg
import pytest
import pytest_asyncio

from shared.db.pool import Connection
from shared.models import Collection, NewImage
from shared.sql import collections, images, vector_index
from syncer import index_builder
from syncer.context import CommandContext, open_context
from tests.fakes.pgbouncer import pooled
from tests.helpers.filled_collections import fill, unit_vectors
from tests.helpers.pictures import make_pictures
from tests.helpers.processes import Server, Syncer
from tests.helpers.waiting import wait_until

NOW = datetime(2026, 1, 1, tzinfo=UTC)


@pytest_asyncio.fixture
async def context(environment: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[CommandContext]:
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    async with open_context(argparse.Namespace(json=True)) as opened:
        yield opened


async def filled(context: CommandContext, count: int) -> Collection:
    """Return a collection of *count* images with vectors."""

    async def work(conn: Connection) -> Collection | None:
        await fill(conn, "b", "offline-v1", unit_vectors(count, 8, seed=1))
        return await collections.find(conn, "b")

    found = await context.database.run(work)
    assert found is not None
    return found


async def state(context: CommandContext, collection: Collection) -> str:
    return (await context.database.run(vector_index.find, collection)).state


async def add_pending(context: CommandContext, collection: Collection, count: int) -> None:
    for number in range(count):
        image = NewImage(f"new{number}.jpg", b"%d" % number, 1, "image/jpeg", 1, 1, "folder")
        await context.database.run(images.add, collection, image, now=NOW)


async def test_a_first_load_of_many_images_drops_the_index_and_builds_it_at_the_end(
    context: CommandContext, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(index_builder, "BUILD_ONCE_FROM", 10)
    collection = await filled(context, 4)
    first_load = index_builder.FirstLoad(context, collection)
    await first_load.check()
    assert await state(context, collection) == "ready", "the collection is small"
    await add_pending(context, collection, 7)
    await first_load.check()
    assert await state(context, collection) == "missing"
    await index_builder.ensure_index(context, collection)
    await first_load.check()
    assert await state(context, collection) == "ready"


async def test_images_added_to_a_large_collection_keep_its_index(
    context: CommandContext, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(index_builder, "BUILD_ONCE_FROM", 10)
    collection = await filled(context, 11)
    await add_pending(context, collection, 7)
    await index_builder.FirstLoad(context, collection).check()
    assert await state(context, collection) == "ready"


async def test_the_next_run_repairs_an_invalid_index(context: CommandContext) -> None:
    collection = await filled(context, 20)

    async def invalidate(conn: Connection) -> None:
        await conn.execute("UPDATE pg_index SET indisvalid = false WHERE indexrelid = 'b_hnsw'::regclass")

    await context.database.run(invalidate)
    assert await state(context, collection) == "missing"
    await index_builder.ensure_index(context, collection)
    assert await state(context, collection) == "ready"


async def test_a_build_whose_syncer_was_killed_is_awaited_instead_of_repeated(
    context: CommandContext, syncer: Syncer, database_url: str
) -> None:
    collection = await filled(context, 20)
    await context.database.run_autocommit(vector_index.drop, collection)
    async with await psycopg.AsyncConnection.connect(database_url) as writer:
        await writer.execute("LOCK TABLE b_embeddings IN ROW EXCLUSIVE MODE")  # builds wait for writers
        process = syncer.start("reindex", "--bucket", "b")
        wait_until(
            lambda: syncer("status", "--bucket", "b", "--json").json["buckets"][0]["index"]["state"] == "building"
        )
        os.killpg(process.pid, signal.SIGKILL)
        process.communicate()
        waiting = asyncio.create_task(index_builder.ensure_index(context, collection))
        done, _ = await asyncio.wait([waiting], timeout=1.5)
        assert not done
        (before,) = await (await writer.execute("SELECT 'b_hnsw'::regclass::oid")).fetchall()
        await writer.commit()
        await waiting
        (after,) = await (await writer.execute("SELECT 'b_hnsw'::regclass::oid")).fetchall()
    assert await state(context, collection) == "ready"
    assert before == after


async def test_processes_that_end_together_build_one_index(context: CommandContext) -> None:
    collection = await filled(context, 200)
    await context.database.run_autocommit(vector_index.drop, collection)
    await asyncio.gather(*(index_builder.ensure_index(context, collection) for _ in range(3)))
    assert await state(context, collection) == "ready"


def test_searches_find_the_same_images_with_the_compact_index(
    syncer: Syncer, server: Server, database_url: str, tmp_path: Path
) -> None:
    make_pictures(tmp_path / "pictures", 12)
    assert syncer("sync", tmp_path / "pictures", "--bucket", "b").status == 0
    expected = server.keys("/api/search", bucket="b", q="waves")
    with pooled(database_url) as pooler:
        for kind in ("compact", "hnsw", "compact"):
            done = syncer("reindex", "--bucket", "b", "--index", kind, "--json", DATABASE_URL=pooler)
            assert done.status == 0, done.stderr
            assert done.json["index"] == {"kind": kind, "state": "ready", "progress": None}
            with psycopg.connect(database_url) as conn:
                statement = "SELECT indexname FROM pg_indexes WHERE indexdef LIKE '%USING hnsw%'"
                assert conn.execute(statement).fetchall() == [(f"b_{kind}",)]
            assert server.keys("/api/search", bucket="b", q="waves") == expected
