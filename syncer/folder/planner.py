"""Plan of a sync: one action per file, from the folder's listing and the database. A dry run prints the same plan.

The plan comes in phases, and each must be executed before the next one is read: new files first, then edited ones, then
deletions. So a chain of renames keeps its images: if ``b`` was renamed to ``c`` and ``a`` to ``b``, the first phase
moves the image of ``b`` to ``c``, and the second one moves that of ``a`` to ``b``.

Files that swapped names are both uploaded again. Vectors are found by content where an image with that content is left,
so a swap may cost one embedding.
"""

import asyncio
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass

from shared.errors import ImageRefused, Reason
from shared.models import KnownFile
from shared.sql import files
from shared.sql.files import Matches, MovableImage
from shared.stores.base import check_key
from syncer.dry_run import Step
from syncer.folder.actions import (
    Action,
    Delete,
    FileAction,
    Forget,
    KeepRemoved,
    Missing,
    Move,
    Reject,
    Skip,
    Touch,
    Unchanged,
    UpdateMetadata,
    Upload,
    as_step,
)
from syncer.folder.deletion import plan_deletions
from syncer.folder.diff import is_unchanged, list_files, list_known, merge
from syncer.folder.options import FolderOptions
from syncer.folder.renames import is_vacated
from syncer.folder.scan import LocalFile, Skipped, Unlisted, digest
from syncer.source import Source

_LOOKUP_BATCH = 32  # changed files that are hashed in parallel and looked up together


@dataclass(frozen=True)
class Changed:
    """A file that differs from its record, with its content's hash."""

    file: LocalFile
    known: KnownFile | None
    sha256: bytes


class Planner:
    """Plans one sync of one folder. It reads the folder and the database and changes neither.

    After the last phase, ``withheld`` tells why images were not deleted though their files are missing. While
    ``complete`` is False, nothing is deleted, because not every file could be read.
    """

    def __init__(self, options: FolderOptions, source: Source | None) -> None:
        """Without a *source*, plan a first sync."""
        self._options = options
        self._source = source
        self._edited: dict[str, Changed] = {}
        self._missing: list[str] = []
        self._moved: dict[int, str] = {}  # images that have a Move, with their former paths
        self._vacated: list[str] = []  # former paths of the latest moves
        self._first_sync = False
        self._found_any = False
        self.complete = True
        self.withheld = ""

    async def phases(self, paths: Sequence[str] | None = None) -> AsyncIterator[AsyncIterator[Action]]:
        """Yield the plan's phases; with *paths*, plan only the files at and below them."""
        yield self._scan([""] if paths is None else paths)
        while vacated := self._pop_vacated():
            yield self._resolve(vacated)
        if self._edited:
            yield self._resolve(list(self._edited.values()), overwrites=True)
        if self._missing:
            yield self._deletions()

    async def steps(self) -> AsyncIterator[Step]:
        """Yield the whole plan for a dry run. Files are not decoded, so corrupt ones count as new."""
        async for phase in self.phases():
            async for action in phase:
                yield as_step(action)

    @property
    def saw_everything(self) -> bool:
        """True if the folder has files and all of them could be read."""
        return self._found_any and self.complete

    def move_failed(self, move: Move) -> None:
        """Record that the image has not left its path: it has changed, or the new key is taken."""
        self._moved[move.image.image_id] = ""
        if move.image.path in self._vacated:
            self._vacated.remove(move.image.path)

    # --- files that exist -----------------------------------------------------------------------------------------

    async def _scan(self, paths: Sequence[str]) -> AsyncIterator[Action]:
        """Yield actions for all but edited files. Those wait until images have moved away from their keys."""
        self._first_sync = self._source is None or await self._source.run(files.is_first_sync)
        batch: list[tuple[LocalFile, KnownFile | None]] = []
        for path in paths:
            async for file, known in merge(list_files(self._options, path), list_known(self._source, path)):
                self._found_any |= isinstance(file, LocalFile)
                if isinstance(file, Unlisted):
                    yield self._reject(file.path, file.refusal)
                elif isinstance(file, Skipped):
                    yield Skip(file.path, file.kind)
                elif file is None:
                    self._missing += [known.path] if known else []
                elif known and is_unchanged(file, known):
                    yield Unchanged(known)
                elif not self._options.is_stable(file):
                    self.complete = False
                else:
                    batch.append((file, known))
                if len(batch) == _LOOKUP_BATCH:
                    async for action in self._compare(batch):
                        yield action
                    batch.clear()
        async for action in self._compare(batch):
            yield action

    async def _compare(self, batch: Sequence[tuple[LocalFile, KnownFile | None]]) -> AsyncIterator[Action]:
        """Yield actions for new and touched files, and remember edited ones."""
        new: list[Changed] = []
        hashes = await asyncio.gather(*(self._hash(file) for file, _ in batch))
        for (file, known), sha256 in zip(batch, hashes, strict=True):
            if isinstance(sha256, ImageRefused):
                yield self._reject(file.path, sha256, file)
            elif sha256 is None:
                yield Upload(file, known)
            elif known and known.sha256 == sha256 and (known.image_id is not None or known.removed):
                yield _touch(file, known)
            elif known and known.image_id is not None:
                self._edited[file.path] = Changed(file, known, sha256)
            else:
                new.append(Changed(file, known, sha256))
        async for action in self._resolve(new):
            yield action

    async def _hash(self, file: LocalFile) -> bytes | ImageRefused | None:
        """Return the content's hash; None in a first sync, where nothing can have moved and nothing was deleted."""
        try:
            check_key(file.path)
            return None if self._first_sync else await asyncio.to_thread(digest, file.absolute)
        except ImageRefused as refusal:
            return refusal

    def _reject(self, path: str, refusal: ImageRefused, file: LocalFile | None = None) -> Reject:
        if refusal.reason is Reason.UNREADABLE:
            self.complete = False
        return Reject(path, refusal, file.stat if file else None)

    def _pop_vacated(self) -> list[Changed]:
        """Remove and return the edited files whose own image has moved away since the last call."""
        paths, self._vacated = self._vacated, []
        return [self._edited.pop(path) for path in paths if path in self._edited]

    async def _resolve(self, changed: Sequence[Changed], *, overwrites: bool = False) -> AsyncIterator[FileAction]:
        for start in range(0, len(changed), _LOOKUP_BATCH):
            batch = changed[start : start + _LOOKUP_BATCH]
            matches = await self._find_matches(batch)
            for each in batch:
                yield await self._resolve_one(each, matches, overwrites=overwrites)

    async def _resolve_one(self, changed: Changed, matches: Matches, *, overwrites: bool) -> FileAction:
        """Find an image to move, else a tombstone, else upload the file."""
        file, known = changed.file, changed.known
        own = known.image_id if known else None
        if matches.key_owners.get(file.path) in (None, own):
            for image in matches.movable.get(changed.sha256, ()):
                if await self._can_move(image, file, overwrites=overwrites):
                    self._moved[image.image_id] = image.path
                    self._vacated.append(image.path)
                    return Move(file, known, image, replaces=overwrites)
        if changed.sha256 in matches.tombstones:
            return KeepRemoved(file, changed.sha256)
        return Upload(file, known)

    async def _can_move(self, image: MovableImage, file: LocalFile, *, overwrites: bool) -> bool:
        """Return whether the image's own file no longer has its content.

        Only an image whose file is missing may replace another image. An edited file's object may be overwritten at the
        same time by another action of the phase.
        """
        if image.image_id in self._moved or image.path == file.path:
            return False
        return await asyncio.to_thread(is_vacated, self._options.folder, image, file, only_missing=overwrites)

    # --- files that are missing -----------------------------------------------------------------------------------

    async def _deletions(self) -> AsyncIterator[Action]:
        assert self._source is not None
        moved = set(self._moved.values())
        missing = [path for path in self._missing if path not in moved]
        plan = await plan_deletions(self._options, self._source, missing, complete=self.complete)
        self.withheld = plan.withheld
        for path in missing:
            if path in plan.deleted:
                yield Delete(path)
            else:
                yield Forget(path) if path in plan.forgotten else Missing(path)

    # --- the database ---------------------------------------------------------------------------------------------

    async def _find_matches(self, changed: Sequence[Changed]) -> Matches:
        assert self._source is not None
        return await self._source.run(
            files.find_matches, contents=[each.sha256 for each in changed], keys=[each.file.path for each in changed]
        )


def _touch(file: LocalFile, known: KnownFile) -> Touch | UpdateMetadata:
    if known.image_id is not None and file.sidecar_state != known.sidecar:
        return UpdateMetadata(file, known.image_id)
    return Touch(file)
