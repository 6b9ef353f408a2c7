"""Options of syncing one folder."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from syncer.deletion_policy import DeletionPolicy
from syncer.folder.ignore import Selection
from syncer.folder.scan import LocalFile


@dataclass(frozen=True)
class FolderOptions:
    """A folder, the name of its source, and how to sync it.

    New and changed files that are not ``is_stable`` are left for another run.
    """

    folder: Path
    source: str
    selection: Selection
    concurrency: int = 8
    derivatives: bool = True
    deletion: DeletionPolicy = DeletionPolicy()
    is_stable: Callable[[LocalFile], bool] = lambda file: True
