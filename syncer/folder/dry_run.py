"""Dry run of a folder: the planner's actions as steps to print."""

from collections.abc import AsyncIterator

from shared.db.pool import Database
from syncer.dry_run import Step, find_source
from syncer.folder.actions import Action, Delete, KeepRemoved, Move, Reject, Touch, Unchanged, Upload
from syncer.folder.options import FolderOptions
from syncer.folder.planner import Planner
from syncer.folder.source import Source


class FolderDryRun:
    """Lists what a sync would do and changes nothing. Files are not decoded, so corrupt ones count as new."""

    def __init__(self, options: FolderOptions, bucket: str, database: Database) -> None:
        self.bucket = bucket
        self.withheld = ""
        self._options = options
        self._database = database

    async def steps(self) -> AsyncIterator[Step]:
        """Yield one step per file; afterwards ``withheld`` tells why images would not be deleted."""
        collection, source_id = await self._database.run(find_source, self.bucket, self._options.source)
        source = Source(self._database, collection, source_id) if collection and source_id is not None else None
        planner = Planner(self._options, source)
        async for phase in planner.phases():
            async for action in phase:
                yield _step(action)
        self.withheld = planner.withheld


def _step(action: Action) -> Step:
    match action:
        case Unchanged(known) if known.reason:
            return Step("unreadable", known.path, known.reason)
        case Unchanged(known):
            return Step("unchanged", known.path)
        case Touch(file) | KeepRemoved(file):
            return Step("unchanged", file.path)
        case Upload(file):
            return Step("edited" if action.is_edit else "new", file.path)
        case Move(file):
            return Step("moved", file.path, action.image.path)
        case Reject(path, refusal):
            return Step("unreadable", path, str(refusal))
        case Delete(path):
            return Step("deleted", path)
        case _:
            return Step("gone", action.path)
