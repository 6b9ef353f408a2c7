"""``--dry-run``: says what a run would do, from the same listing and the same questions, and changes nothing."""

import asyncio
from collections.abc import AsyncIterator
from functools import partial
from pathlib import Path

from shared.db.pool import Database
from shared.errors import ImageRefused, Reason
from shared.models import Collection, KnownFile
from shared.sql import files
from shared.stores.base import check_key
from syncer.deletion_policy import DeletionPolicy
from syncer.dry_run import Kind, Step, find_source
from syncer.folder.deletion import judge
from syncer.folder.ignore import Selection
from syncer.folder.planner import Gone, Keep, Report, Upload
from syncer.folder.renames import is_free
from syncer.folder.scan import LocalFile, digest
from syncer.folder.state_scan import listed, planned


class Preview:
    """What a run over one folder would do. Images that no decoder can read are not told apart: none is decoded."""

    def __init__(
        self,
        folder: Path,
        bucket: str,
        *,
        source: str,
        selection: Selection,
        database: Database,
        deletion: DeletionPolicy,
    ) -> None:
        self.bucket = bucket
        self._folder = folder
        self._source_name = source
        self._selection = selection
        self._database = database
        self._deletion = deletion
        self._edited: list[tuple[LocalFile, KnownFile, bytes]] = []
        self._gone: list[str] = []
        self._unmarked: set[str] = set()
        self._claimed: dict[int, str] = {}
        self._complete = True
        self.withheld = ""

    async def steps(self) -> AsyncIterator[Step]:
        """Yield what would be done, file by file; afterwards ``withheld`` says why something would not be deleted."""
        collection, source = await self._database.run(find_source, self.bucket, self._source_name)
        if collection is None or source is None:
            async for entry in listed(self._folder, self._selection):
                if isinstance(entry, LocalFile):
                    yield Step("new", entry.path)
                else:
                    yield Step("unreadable", entry.path, str(entry.refusal))
            return
        async for action in planned(self._folder, self._selection, self._database, collection, source):
            match action:
                case Upload(file, known):
                    if step := await self._judge(collection, source, file, known):
                        yield step
                case Keep(known):
                    yield Step("unreadable" if known.reason else "unchanged", known.path, known.reason or "")
                case Gone(known):
                    self._gone.append(known.path)
                case Report(unlisted):
                    self._complete &= unlisted.refusal.reason is not Reason.UNREADABLE
                    yield Step("unreadable", unlisted.path, str(unlisted.refusal))
        for file, known, content in self._edited:
            old = await self._old_path(collection, source, file, known, content)
            kind: Kind = "unchanged" if old is None else "moved" if old else "edited"
            yield Step(kind, file.path, old or "")
        async for step in self._deletions(collection, source):
            yield step

    async def _judge(
        self, collection: Collection, source: int, file: LocalFile, known: KnownFile | None
    ) -> Step | None:
        """Return what would be done with a new or changed file; None where that depends on the other files."""
        try:
            check_key(file.path)
            content = await asyncio.to_thread(digest, file.absolute)
        except ImageRefused as refusal:
            self._complete &= refusal.reason is not Reason.UNREADABLE
            return Step("unreadable", file.path, str(refusal))
        if known and (known.image_id is not None or known.removed):
            if known.sha256 == content:
                return Step("unchanged", file.path)
            self._edited.append((file, known, content))
            return None
        old = await self._old_path(collection, source, file, known, content)
        return Step("unchanged" if old is None else "moved" if old else "new", file.path, old or "")

    async def _old_path(
        self, collection: Collection, source: int, file: LocalFile, known: KnownFile | None, sha256: bytes
    ) -> str | None:
        """Return under which path the file's image was, "" where it had none, None where it stays removed."""
        ask = partial(
            files.content,
            collection=collection,
            source=source,
            sha256=sha256,
            path=file.path,
            image_id=known.image_id if known else None,
        )
        content = await self._database.run(ask)
        if content.removed:
            return None
        for copy in () if content.taken else content.copies:
            if copy.path is None or not copy.movable or copy.image_id in self._claimed:
                continue
            if await asyncio.to_thread(is_free, self._folder, copy, file):
                self._claimed[copy.image_id] = copy.path
                return copy.path
        for mark in content.marks:
            if mark.path not in self._unmarked and await asyncio.to_thread(is_free, self._folder, mark, file):
                self._unmarked.add(mark.path)
                return None
        return ""

    async def _deletions(self, collection: Collection, source: int) -> AsyncIterator[Step]:
        moved = set(self._claimed.values())
        gone = [path for path in self._gone if path not in moved]
        verdict = await judge(
            self._folder,
            self._selection,
            self._database,
            collection,
            source,
            gone,
            deletion=self._deletion,
            complete=self._complete,
        )
        self.withheld = verdict.withheld
        deleted = set(verdict.images)
        for path in gone:
            yield Step("deleted" if path in deleted else "gone", path)
