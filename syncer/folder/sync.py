"""Sync of one folder to one collection."""

from collections.abc import Sequence
from dataclasses import dataclass

from shared.sql import files, pending_objects
from syncer.folder.executor import Executor
from syncer.folder.options import FolderOptions
from syncer.folder.planner import Planner
from syncer.source import Source
from syncer.source_lock import source_lock
from syncer.target import SyncTarget


@dataclass
class FolderSync:
    """Syncs one folder to one collection. Each image is committed separately, so a run can be stopped at any point.

    After a run, ``withheld`` tells why images were not deleted though their files are missing.
    """

    options: FolderOptions
    target: SyncTarget
    withheld: str = ""

    async def run(self, paths: Sequence[str] | None = None) -> bool:
        """Upload, move and delete until each file has its image or is reported with its reason.

        With *paths*, relative to the folder, sync only the files at and below them. Wait while another process syncs
        the folder. Without *paths*, return False at once if another process is waiting already.

        Raises ServiceError if the store or the database refuses, or stays unavailable for too long.
        """
        source = await self.target.ensure_source(self.options.source)
        async with source_lock(source, wait=paths is not None) as acquired:
            if acquired:
                await self._sync(source, paths)
        return acquired

    async def _sync(self, source: Source, paths: Sequence[str] | None) -> None:
        self.options.selection.reload_ignore_files()
        # We hold the source lock, so the remaining intents are those of interrupted runs.
        await source.run(pending_objects.abandon_uploads)
        planner = Planner(self.options, source)
        executor = Executor(self.options, source, planner, self.target)
        async for phase in planner.phases(paths):
            await executor.execute(phase)
        self.withheld = planner.withheld
        if paths is None and planner.saw_everything:
            await source.run(files.prune_tombstones)
        await self.target.delete_pending_objects()
