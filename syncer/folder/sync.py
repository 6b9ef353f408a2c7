"""Sync of one folder to one collection."""

from collections.abc import Sequence

from shared.db.pool import Database
from shared.images.worker_pool import DecoderPool
from shared.models import Collection
from shared.object_deletion import delete_pending_objects
from shared.retry import RetryPolicy
from shared.sql import collections, files, pending_objects
from shared.stores.base import ObjectStore
from syncer.folder.executor import Executor
from syncer.folder.options import FolderOptions
from syncer.folder.planner import Planner
from syncer.folder.source import Source
from syncer.progress import Progress
from syncer.source_lock import source_lock


class FolderSync:
    """Syncs one folder to one collection. Each image is committed by itself, so a run can be stopped at any point.

    After a run, ``withheld`` tells why images were not deleted though their files are missing.
    """

    def __init__(
        self,
        options: FolderOptions,
        *,
        collection: Collection,
        database: Database,
        store: ObjectStore,
        decoder: DecoderPool,
        retry: RetryPolicy,
        progress: Progress,
    ) -> None:
        self._options = options
        self._collection = collection
        self._database = database
        self._store = store
        self._decoder = decoder
        self._retry = retry
        self._progress = progress
        self.withheld = ""

    async def run(self, paths: Sequence[str] | None = None) -> bool:
        """Upload, move and delete until each file has its image or is reported with its reason.

        With *paths*, relative to the folder, sync only the files at and below them. Wait while another process syncs
        the folder. Without *paths*, return False at once if another process is waiting already.

        Raises ServiceError if the store or the database refuses, or stays unavailable for too long.
        """
        source_id = await self._database.run(collections.ensure_source, self._collection, self._options.source)
        async with source_lock(self._database, source_id, wait=paths is not None) as acquired:
            if acquired:
                await self._sync(Source(self._database, self._collection, source_id), paths)
        return acquired

    async def _sync(self, source: Source, paths: Sequence[str] | None) -> None:
        self._options.selection.reload_ignore_files()
        # We hold the source lock, so the remaining intents are those of interrupted runs.
        await self._database.run(pending_objects.abandon_uploads, self._collection, source=source.id)
        planner = Planner(self._options, source)
        executor = Executor(
            self._options,
            source,
            planner,
            store=self._store,
            decoder=self._decoder,
            retry=self._retry,
            progress=self._progress,
        )
        async for phase in planner.phases(paths):
            await executor.execute(phase)
        self.withheld = planner.withheld
        if paths is None and planner.saw_everything:
            await source.run(files.prune_tombstones)
        await self._retry.run(delete_pending_objects, self._database, self._store, self._collection)
