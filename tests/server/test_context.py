"""Work on a collection whose cached row may be stale."""

from collections.abc import AsyncIterator
from datetime import UTC, datetime
from pathlib import Path

import psycopg
import pytest
import pytest_asyncio
from psycopg.errors import UndefinedTable

from server import context as context_module
from server.access import READ_ACCESS
from server.context import AppContext
from server.problem import Problem
from server.settings import ServerSettings
from server.url_fetcher import UrlFetcher
from shared.db.pool import Database
from shared.errors import ModelChanged, ServiceError
from shared.models import Collection
from shared.sql import collections


@pytest_asyncio.fixture
async def context(
    database: Database, database_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[AppContext]:
    """A context on a database with the collection ``b``, whose retries do not pause."""
    monkeypatch.setattr(context_module, "ATTEMPT_PAUSES", (0.0,) * 6)
    now = datetime(2026, 1, 1, tzinfo=UTC)
    await database.run(collections.ensure, bucket="b", model="old", dimensions=8, now=now)
    settings = ServerSettings(database_url=database_url, image_browser_home=tmp_path)  # type: ignore[arg-type]
    made = AppContext(settings, database, UrlFetcher()).for_access(READ_ACCESS)
    yield made
    await made.close()


async def test_work_runs_again_with_the_current_collection_after_a_switch(
    context: AppContext, database_url: str
) -> None:
    models = []

    async def work(collection: Collection, suffix: str) -> str:
        models.append(collection.model)
        if collection.model == "old":
            with psycopg.connect(database_url) as conn:
                conn.execute("UPDATE collections SET model = 'new'")
            raise ModelChanged("the model has changed")
        return collection.model + suffix

    assert await context.with_collection("b", work, "!") == "new!"
    assert models == ["old", "new"]


async def test_work_on_a_dropped_collection_gets_a_404(context: AppContext, database: Database) -> None:
    async def work(collection: Collection) -> None:
        await database.run(collections.drop, collection)
        raise UndefinedTable("b_images does not exist")

    with pytest.raises(Problem, match="no collection 'b'") as raised:
        await context.with_collection("b", work)
    assert raised.value.status == 404


async def test_a_collection_that_keeps_changing_is_reported_as_transient(context: AppContext) -> None:
    runs = 0

    async def work(_collection: Collection) -> None:
        nonlocal runs
        runs += 1
        raise ModelChanged("again")

    with pytest.raises(ServiceError, match="'b' keeps changing") as raised:
        await context.with_collection("b", work)
    assert raised.value.transient
    assert runs == 6


async def test_a_collection_created_a_moment_ago_is_found(context: AppContext, database: Database) -> None:
    assert [each.bucket for each in await context.collections()] == ["b"]
    now = datetime(2026, 1, 1, tzinfo=UTC)
    await database.run(collections.ensure, bucket="c", model="old", dimensions=8, now=now)
    assert (await context.collection("c")).bucket == "c"


async def test_counts_leave_out_a_collection_dropped_meanwhile(context: AppContext, database: Database) -> None:
    now = datetime(2026, 1, 1, tzinfo=UTC)
    dropped = await database.run(collections.ensure, bucket="c", model="old", dimensions=8, now=now)
    assert len(await context.collections()) == 2
    await database.run(collections.drop, dropped)
    assert [each.bucket for each in await context.counts()] == ["b"]
