"""Pruning of saved rankings."""

from datetime import UTC, datetime, timedelta
from uuid import uuid4

from shared.db.pool import Database
from shared.models import Ranking
from shared.sql import collections, saved_rankings

NOW = datetime(2026, 1, 1, tzinfo=UTC)


async def test_pruning_deletes_old_rankings_and_the_oldest_beyond_the_maximum(database: Database) -> None:
    collection = await database.run(collections.ensure, "b", model="m", dimensions=8, now=NOW)
    rankings = [uuid4() for _ in range(6)]
    for age, ranking_id in enumerate(rankings):
        created_at = NOW - timedelta(minutes=age)
        await database.run(saved_rankings.save, collection, ranking_id, Ranking([], [], []), now=created_at)

    async def prune(keep: int) -> list[bool]:
        await database.run(saved_rankings.prune, collection, before=NOW - timedelta(minutes=4), keep=keep)
        return [await database.run(saved_rankings.exists, collection, each) for each in rankings]

    assert await prune(keep=10) == [True] * 5 + [False]
    assert await prune(keep=3) == [True] * 3 + [False] * 3
