"""Decides which images go because their files are gone. A failure must never look like a deletion."""

import asyncio
import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import lru_cache, partial
from pathlib import Path

from shared.db.pool import Database
from shared.models import Collection
from shared.sql import files
from syncer.batches import batches
from syncer.deletion_policy import DeletionPolicy, refuse_mass_deletion
from syncer.folder.ignore import Selection
from syncer.folder.scan import LocalFile, scan, spelled


@dataclass
class Verdict:
    """What becomes of files that are gone, by path, or of a bucket's objects, by key.

    *images* are removed and *marks* forgotten, which say that a file has a removed image, or one that is not ours
    alone. *rejected* were no images: they are forgotten in any case. *withheld* says why images stay that should have
    gone; "" when none does.
    """

    images: list[str] = field(default_factory=list)
    marks: list[str] = field(default_factory=list)
    rejected: list[str] = field(default_factory=list)
    withheld: str = ""


async def judge(
    folder: Path,
    selection: Selection,
    database: Database,
    collection: Collection,
    source: int,
    paths: Sequence[str],
    *,
    deletion: DeletionPolicy,
    complete: bool,
) -> Verdict:
    """Decide about *paths*, known files that were not met in the folder; *complete* says that all of it was listed.

    Files that are left out by patterns now are not looked at, and so are not gone. An image that came by other ways, or
    that another folder holds, stays. Without ``deletion.requested``, all images stay.
    """
    verdict = Verdict()
    lost: set[str] = set()
    lost_folder = lru_cache(maxsize=1024)(partial(_lost_folder, folder))
    for batch in batches(paths):
        missing = await asyncio.to_thread(_missing, folder, selection, batch)
        for row in await database.run(files.gone, collection=collection, source=source, paths=missing):
            if row.image_id is None and not row.removed:
                verdict.rejected.append(row.path)
            elif not deletion.requested:
                pass
            elif not deletion.confirmed and (at := lost_folder(os.path.dirname(row.path))):
                lost.add(at)
            else:
                (verdict.images if row.own else verdict.marks).append(row.path)
    if verdict.images or verdict.marks or lost:
        total = await database.run(files.count_images, collection=collection, source=source)
        verdict.withheld = await asyncio.to_thread(
            _why_not, folder, selection, len(verdict.images), total, deletion=deletion, complete=complete
        )
        if verdict.withheld:
            verdict.images, verdict.marks = [], []
        elif lost:
            verdict.withheld = (
                f"what came from {min(lost)!r} stays, which is empty or leads nowhere now: is a disk not mounted?"
                " If it is to go, remove the folder, or add --yes"
            )
    return verdict


def _why_not(
    folder: Path, selection: Selection, count: int, total: int, *, deletion: DeletionPolicy, complete: bool
) -> str:
    """Return why nothing may be removed at all; "" if it may."""
    if not complete:
        return "nothing was removed, since not all of the folder could be looked at"
    if not any(isinstance(entry, LocalFile) for entry in scan(folder, selection)):
        return "nothing was removed, since the folder holds no image at all: is its disk mounted?"
    return refuse_mass_deletion(count, total, deletion)


def _missing(folder: Path, selection: Selection, paths: Sequence[str]) -> list[str]:
    return [path for path in paths if _is_missing(folder, selection, path)]


def _is_missing(folder: Path, selection: Selection, path: str) -> bool:
    if not selection.takes(path):
        return False
    try:
        (folder / path).lstat()
    except (FileNotFoundError, NotADirectoryError):
        return True
    except OSError:
        return False
    # A folder may have its name now, or a file that only some disks take for the same.
    return (folder / path).is_dir() or not spelled(folder, path)


def _lost_folder(folder: Path, path: str) -> str:
    """Return the nearest folder above, *path* itself the first, if it is there and empty, or a link to nowhere."""
    while path:
        try:
            return "" if os.listdir(folder / path) else path
        except (FileNotFoundError, NotADirectoryError):
            if (folder / path).is_symlink():
                return path
            path = os.path.dirname(path)
        except OSError:
            return path
    return ""
