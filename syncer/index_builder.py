"""Build a collection's vector index, once after a first load and when it changes its kind.

Builds run in PostgreSQL, on a connection of their own, while others read and write the collection. A build that was
interrupted leaves an invalid index, which the next run replaces. If only the syncer was killed, PostgreSQL finishes the
build, and the next run waits for that.
"""

import asyncio
import os
from dataclasses import replace

from shared.db.pool import Connection
from shared.models import Collection, IndexKind
from shared.sql import collections, stats, vector_index
from shared.sql.vector_index import BUILD_ONCE_FROM
from syncer.context import CommandContext

_POLL = 1.0  # seconds between looks at a build by another process


class FirstLoad:
    """Drops the index while a collection gets its first images, if they are many."""

    def __init__(self, context: CommandContext, collection: Collection) -> None:
        self._context = context
        self._collection = collection
        self._decided = False

    async def check(self) -> None:
        """Drop the index when the collection grows beyond BUILD_ONCE_FROM images for the first time in this run."""
        if self._decided:
            return
        counts = await self._context.database.run(stats.counts, self._collection)
        if counts.total > BUILD_ONCE_FROM:
            self._decided = True
            if counts.embedded <= BUILD_ONCE_FROM:
                await self._context.database.run_autocommit(vector_index.drop, self._collection)


async def ensure_index(context: CommandContext, collection: Collection) -> None:
    """Return when searches can use the collection's index; build it if it is missing."""
    while not await context.database.run(_ensure, context, collection):
        await asyncio.sleep(_POLL)


async def change_index(context: CommandContext, collection: Collection, kind: IndexKind) -> None:
    """Build an index of another kind, let searches use it, and drop the previous one."""
    await context.database.run(vector_index.require_extension, kind)
    changed = replace(collection, index_kind=kind)
    while not await context.database.run(_ensure, context, changed, chosen=False):
        await asyncio.sleep(_POLL)
    await context.database.run(vector_index.choose, changed)
    await ensure_index(context, changed)


async def _ensure(lock: Connection, context: CommandContext, collection: Collection, *, chosen: bool = True) -> bool:
    """Build the index, or return False if one is being built. The transaction of *lock* excludes other processes.

    If the kind is *chosen*, which searches already use, drop indexes of other kinds.
    """
    if not await vector_index.try_lock(lock, collection):
        return False
    if chosen and (current := await collections.find(lock, collection.bucket)):
        collection = replace(collection, index_kind=current.index_kind)
    found = await vector_index.find(lock, collection)
    if found.state == "building":  # for a process that was killed
        return False
    if found.state == "missing":
        counts = await stats.counts(lock, collection)
        context.progress.say(
            f"{collection.bucket}: building the {collection.index_kind} index of {counts.embedded:,} vectors"
        )
        # A statement with parameters leaves its snapshot open, which a concurrent build would wait for; this one not.
        await lock.execute("SELECT")
        memory, workers = _local_resources(context)
        await context.database.run_autocommit(
            vector_index.build, collection, rows=counts.embedded, memory=memory, workers=workers
        )
    if chosen:
        await context.database.run_autocommit(vector_index.drop_others, collection)
    return True


def _local_resources(context: CommandContext) -> tuple[int, int] | tuple[None, None]:
    """Return bytes and parallel workers for a build in the embedded PostgreSQL; None for one elsewhere."""
    if context.settings.database_url is not None:
        return None, None
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return memory // 4, (os.cpu_count() or 1) - 1
