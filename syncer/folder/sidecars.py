"""XMP sidecars: files beside an image that describe it, ``a.jpg.xmp`` or ``a.xmp`` for ``a.jpg``."""

import os
import stat
from collections import defaultdict
from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from shared.errors import SettingsError
from shared.images.metadata.xmp import MAX_BYTES
from shared.local_files import open_regular
from syncer.file_names import sidecar_names
from syncer.folder.ignore import Selection


@dataclass(frozen=True)
class Sidecar:
    """A sidecar at the time of the listing; ``state`` changes when it does."""

    path: Path
    state: str

    def read(self) -> bytes:
        """Return the content; b"" if it cannot be read or is too large."""
        try:
            with open_regular(self.path) as file:
                content = file.read(MAX_BYTES + 1)
        except OSError:
            return b""
        return content if len(content) <= MAX_BYTES else b""


def find_sidecar(folder: Path, path: str, selection: Selection, names: Collection[str] | None = None) -> Sidecar | None:
    """Return the sidecar of the file *path* in *folder*, if it has one that is not excluded.

    *names* are those of the sidecars in the file's folder, if these are known.
    """
    if names is not None and not names:  # as in most folders
        return None
    for candidate in sidecar_names(path):
        if names is not None and os.path.basename(candidate) not in names:
            continue
        try:
            status = (folder / candidate).stat()
            followed = not (folder / candidate).is_symlink() or selection.follows(candidate)
            if stat.S_ISREG(status.st_mode) and followed and not selection.excludes(candidate):
                return Sidecar(folder / candidate, f"{status.st_size} {status.st_mtime_ns}")
        except (OSError, SettingsError):
            continue
    return None


def described_files(folder: Path, sidecars: Iterable[str]) -> Iterator[str]:
    """Yield the paths of the files that sidecars at these paths describe, whether or not these exist."""
    by_folder = defaultdict(set)
    for path in sidecars:
        by_folder[os.path.dirname(path)].add(path)
    for parent, paths in by_folder.items():
        try:
            names = os.listdir(folder / parent)
        except OSError:
            continue
        for name in names:
            path = os.path.join(parent, name)
            if not paths.isdisjoint(sidecar_names(path)):
                yield path
