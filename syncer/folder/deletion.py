"""Plan of deletions: which images go because their files are missing. A failure must never look like a deletion."""

import asyncio
import os
from collections.abc import Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path

from shared.sql import files
from syncer.batches import batches
from syncer.deletion_policy import refuse_mass_deletion
from syncer.folder.ignore import Selection
from syncer.folder.options import FolderOptions
from syncer.folder.scan import LocalFile, has_exact_name, scan
from syncer.source import Source


@dataclass
class DeletionPlan:
    """Missing files, by path, whose images are ``deleted`` or whose records alone are ``forgotten``.

    ``withheld`` tells why images stay though ``--delete`` was given; "" if none does.
    """

    deleted: AbstractSet[str] = field(default_factory=set)
    forgotten: AbstractSet[str] = field(default_factory=set)
    withheld: str = ""


async def plan_deletions(
    options: FolderOptions, source: Source, paths: Sequence[str], *, complete: bool
) -> DeletionPlan:
    """Plan what happens to *paths*, recorded files that the listing lacks; *complete* tells whether it is complete.

    Files that are excluded now count as present. An image that was added otherwise, or that another folder has too,
    stays. Without ``--delete``, all images stay.
    """
    rejected, images, shared, emptied = set[str](), set[str](), set[str](), set[str]()
    emptied_folder = lru_cache(maxsize=1024)(lambda path: _emptied_folder(options.folder, path))
    for batch in batches(paths):
        missing = await asyncio.to_thread(_missing, options, batch)
        for row in await source.run(files.find_missing, paths=missing):
            if row.image_id is None and not row.removed:
                rejected.add(row.path)
            elif not options.deletion.requested:
                pass
            elif not options.deletion.confirmed and (folder := emptied_folder(os.path.dirname(row.path))):
                emptied.add(folder)
            else:
                (images if row.own else shared).add(row.path)
    if not (images or shared or emptied):
        return DeletionPlan(forgotten=rejected)
    total = await source.run(files.count_images)
    if refusal := await asyncio.to_thread(_refuse, options, len(images), total, complete=complete):
        return DeletionPlan(forgotten=rejected, withheld=refusal)
    withheld = ""
    if emptied:
        withheld = (
            f"keeping images from {min(emptied)!r}: it is empty or missing (disk not mounted?);"
            " to delete them, remove the folder or pass --yes"
        )
    return DeletionPlan(images, rejected | shared, withheld)


def _refuse(options: FolderOptions, count: int, total: int, *, complete: bool) -> str:
    """Return why nothing at all may be deleted; "" if it may."""
    if not complete:
        return "deleted nothing, because some files could not be read"
    if not any(isinstance(entry, LocalFile) for entry in scan(options.folder, options.selection)):
        return f"deleted nothing, because {str(options.folder)!r} has no images (disk not mounted?)"
    return refuse_mass_deletion(count, total, options.deletion)


def _missing(options: FolderOptions, paths: Sequence[str]) -> list[str]:
    return [path for path in paths if _is_missing(options.folder, options.selection, path)]


def _is_missing(folder: Path, selection: Selection, path: str) -> bool:
    if not (selection.includes(path) and selection.follows(path)):
        return False
    try:
        (folder / path).lstat()
    except (FileNotFoundError, NotADirectoryError):
        return True
    except OSError:
        return False
    # A folder may have taken the name, or on some disks a file whose name differs in case.
    return (folder / path).is_dir() or not has_exact_name(folder, path)


def _emptied_folder(folder: Path, path: str) -> str:
    """Return the nearest existing folder at or above *path* if it is empty or a broken link; else ""."""
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
