"""What lies in a folder and what is known of it, as streams that are never in memory whole."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from itertools import islice
from pathlib import Path
from typing import TypeVar

from shared.db.pool import Database
from shared.models import Collection, KnownFile
from shared.sql import files
from syncer.batches import BATCH_SIZE
from syncer.folder.ignore import Selection
from syncer.folder.planner import Action, plan
from syncer.folder.scan import LocalFile, Unlisted, scan

T = TypeVar("T")


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
    while batch := await asyncio.to_thread(lambda: list(islice(entries, BATCH_SIZE))):
        for entry in batch:
            yield entry


async def _known(database: Database, collection: Collection, source: int, at: str) -> AsyncIterator[KnownFile]:
    last = ""
    while rows := await database.run(
        files.after, collection=collection, source=source, path=last, limit=4 * BATCH_SIZE, at=at
    ):
        for row in rows:
            yield row
        last = rows[-1].path
