"""Listing of the images in a folder."""

import hashlib
import os
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from shared.errors import ImageRefused, Reason, SettingsError
from shared.stores.base import MAX_KEY_BYTES
from syncer.folder.ignore import Selection

# Nanoseconds in which a file system may give two writes the same times.
CLOCK_STEP = 20_000_000

_LONGEST_PATH = 2000  # bytes: longer paths fit neither a key nor an index of PostgreSQL

Inode = tuple[int, int]


@dataclass(frozen=True)
class LocalFile:
    """A file at the time of the listing; ``path`` is relative to ``folder``, with ``/`` between its parts.

    ``ctime_ns`` is 0 if the file changed so recently that another change could leave its times as they are. Then the
    next sync compares its content again.
    """

    path: str
    folder: Path
    size: int
    mtime_ns: int
    ctime_ns: int

    @property
    def absolute(self) -> Path:
        return self.folder / self.path

    @property
    def stat(self) -> tuple[int, int, int]:
        return self.size, self.mtime_ns, self.ctime_ns


@dataclass(frozen=True)
class Unlisted:
    """A file or folder that could not be read: its content is unknown, which does not mean missing."""

    path: str
    refusal: ImageRefused


def scan(folder: Path, selection: Selection, at: str = "") -> Iterator[LocalFile | Unlisted]:
    """Yield the selected files at and below the path *at* in *folder*, by path in UTF-8 byte order.

    Links are followed, except those that lead to a folder above. Only the entries of one folder and of those above it
    are in memory.
    """
    prefix = ""
    ancestors: tuple[Inode, ...] = ()
    for name in filter(None, at.split("/")):
        path = prefix + name
        try:
            ancestors = _descend(folder / prefix, ancestors)
            if not ancestors:
                return
            is_folder = (folder / path).is_dir()
            if selection.excludes(f"{path}/" if is_folder else path):
                return
            if not is_folder:
                if path == at and os.path.lexists(folder / path) and selection.includes_file(path):
                    yield _stat(folder, path)
                return
        except (OSError, SettingsError) as exc:
            yield Unlisted(path, _unreadable(exc))
            return
        prefix = path + "/"
    yield from _scan(folder, prefix, selection, ancestors)


def digest(path: Path) -> bytes:
    """Return the SHA-256 of a file's content; raise ImageRefused if it cannot be read."""
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").digest()
    except OSError as exc:
        raise _unreadable(exc) from exc


def has_exact_name(folder: Path, path: str) -> bool:
    """Return whether *path* exists with that spelling; some disks ignore case or accents."""
    for name in path.split("/"):
        if name not in os.listdir(folder):
            return False
        folder /= name
    return True


def _scan(
    folder: Path, prefix: str, selection: Selection, ancestors: tuple[Inode, ...]
) -> Iterator[LocalFile | Unlisted]:
    try:
        ancestors = _descend(folder / prefix, ancestors)
        if not ancestors:
            return
        with os.scandir(folder / prefix) as listing:
            # Paths below a folder continue with "/", so that is how the folder's name sorts.
            entries = sorted((_sort_key(e), e) for e in listing)
            selected = [
                (is_folder, entry)
                for (_, is_folder), entry in entries
                if (
                    not selection.excludes(f"{prefix}{entry.name}/")
                    if is_folder
                    else selection.includes_file(prefix + entry.name)
                )
            ]
    except (OSError, SettingsError) as exc:
        yield Unlisted(prefix, _unreadable(exc))
        return
    del entries
    for is_folder, entry in selected:
        if is_folder:
            yield from _scan(folder, f"{prefix}{entry.name}/", selection, ancestors)
        else:
            yield _stat(folder, prefix + entry.name, entry)


def _descend(folder: Path, ancestors: tuple[Inode, ...]) -> tuple[Inode, ...]:
    """Return the ancestors with the folder appended; nothing if it is one of them."""
    status = folder.stat()
    here = (status.st_dev, status.st_ino)
    return () if here in ancestors else (*ancestors, here)


def _sort_key(entry: "os.DirEntry[str]") -> tuple[bytes, bool]:
    try:
        is_folder = entry.is_dir()
    except OSError:
        is_folder = False
    name = os.fsencode(entry.name)
    return (name + b"/" if is_folder else name), is_folder


def _stat(folder: Path, path: str, entry: "os.DirEntry[str] | None" = None) -> LocalFile | Unlisted:
    try:
        encoded = path.encode()
    except UnicodeEncodeError:
        readable = os.fsencode(path).decode("utf-8", "backslashreplace")
        return Unlisted(readable, ImageRefused(Reason.KEY_INVALID, "the file's name is not valid UTF-8: rename it"))
    if len(encoded) > _LONGEST_PATH:
        detail = f"the path has {len(encoded)} bytes in UTF-8, and a key at most {MAX_KEY_BYTES}: shorten it"
        return Unlisted(path, ImageRefused(Reason.KEY_INVALID, detail))
    try:
        status = entry.stat() if entry else (folder / path).stat()
    except OSError as exc:
        return Unlisted(path, _unreadable(exc))
    ctime = status.st_ctime_ns if time.time_ns() - status.st_ctime_ns > CLOCK_STEP else 0
    return LocalFile(path, folder, status.st_size, status.st_mtime_ns, ctime)


def _unreadable(exc: OSError | SettingsError) -> ImageRefused:
    cause = exc.strerror if isinstance(exc, OSError) else exc
    return ImageRefused(Reason.UNREADABLE, f"it cannot be read: {cause}", final=False)
