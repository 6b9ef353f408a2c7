"""What lies in a folder and what is known of it, as streams that are never in memory whole."""

import asyncio
from collections.abc import AsyncIterator, Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import TypeVar

from shared.db.pool import Database
from shared.models import Collection, KnownFile
from shared.sql import files
from syncer.folder.ignore import Selection
from syncer.folder.planner import Action, plan
from syncer.folder.scan import LocalFile, Unlisted, scan

T = TypeVar("T")

BATCH = 500  # how much of a list is dealt with at once


async def planned(
    folder: Path,
    selection: Selection,
    database: Database,
    collection: Collection,
    source: int,
    paths: Sequence[str] = ("",),
) -> AsyncIterator[Action]:
    """Yield what is to be done with what lies, or lay, at and below *paths* in the folder, "" being all of it."""
    for path in paths:
        async for action in plan(listed(folder, selection, path), _known(database, collection, source, path)):
            yield action


async def listed(folder: Path, selection: Selection, at: str = "") -> AsyncIterator[LocalFile | Unlisted]:
    """Yield what ``scan`` does, without blocking."""
    entries = scan(folder, selection, at)
    while batch := await asyncio.to_thread(lambda: list(islice(entries, BATCH))):
        for entry in batch:
            yield entry


async def _known(database: Database, collection: Collection, source: int, at: str) -> AsyncIterator[KnownFile]:
    last = ""
    while rows := await database.run(
        files.after, collection=collection, source=source, path=last, limit=4 * BATCH, at=at
    ):
        for row in rows:
            yield row
        last = rows[-1].path


def batches(items: Sequence[T]) -> Iterator[Sequence[T]]:
    """Yield *items* in parts that are dealt with at once."""
    for start in range(0, len(items), BATCH):
        yield items[start : start + BATCH]
