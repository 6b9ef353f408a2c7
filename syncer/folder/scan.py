"""Listing of the images in a folder."""

import hashlib
import os
import stat
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from shared.errors import ImageRefused, Reason, SettingsError
from shared.local_files import open_regular
from shared.stores.base import MAX_KEY_BYTES
from syncer.file_names import file_type, is_sidecar
from syncer.folder.ignore import Selection
from syncer.folder.sidecars import Sidecar, find_sidecar

# Nanoseconds in which a file system may give two writes the same times.
CLOCK_STEP = 20_000_000

_MAX_TIME = 2**63 - 1
_LONGEST_PATH = 2000  # bytes: longer paths fit neither a key nor an index of PostgreSQL

Inode = tuple[int, int]


@dataclass(frozen=True)
class LocalFile:
    """A file at the time of the listing; ``path`` is relative to ``folder``, with ``/`` between its parts.

    ``ctime_ns`` is 0 if the file changed so recently that another change could leave its times as they are. Then the
    next sync compares its content again. ``sidecar`` is an XMP file that describes it.
    """

    path: str
    folder: Path
    size: int
    mtime_ns: int
    ctime_ns: int
    sidecar: Sidecar | None = None

    @property
    def absolute(self) -> Path:
        return self.folder / self.path

    @property
    def stat(self) -> tuple[int, int, int]:
        return self.size, self.mtime_ns, self.ctime_ns

    @property
    def sidecar_state(self) -> str:
        return self.sidecar.state if self.sidecar else ""


@dataclass(frozen=True)
class Unlisted:
    """A file or folder that could not be read: its content is unknown, which does not mean missing."""

    path: str
    refusal: ImageRefused


@dataclass(frozen=True)
class Skipped:
    """An entry that a sync does not take though nothing excludes it; ``kind`` is its type, as in "mp4".

    The path of a folder ends in ``/``.
    """

    path: str
    kind: str


Entry = LocalFile | Unlisted | Skipped

# Kinds of skipped entries beside the types of files.
LINK_OUT = "linked from outside the folder (--follow-links takes them)"
NOT_REGULAR = "pipe, socket or device"


def scan(folder: Path, selection: Selection, at: str = "") -> Iterator[Entry]:
    """Yield the selected files at and below the path *at* in *folder*, by path in UTF-8 byte order.

    Links are followed inside the folder, and out of it if the selection says so, except those that lead to a folder
    above. Only the entries of one folder and of those above it are in memory.
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
                if path == at and os.path.lexists(folder / path) and selection.matches(path):
                    yield _file(folder, path, selection, find_sidecar(folder, path, selection))
                return
            if not selection.follows(path):
                yield Skipped(f"{path}/", LINK_OUT)
                return
        except (OSError, SettingsError) as exc:
            yield Unlisted(path, _unreadable(exc))
            return
        prefix = path + "/"
    yield from _scan(folder, prefix, selection, ancestors)


def digest(path: Path) -> bytes:
    """Return the SHA-256 of a file's content; raise ImageRefused if it cannot be read."""
    try:
        with open_regular(path) as file:
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


def _scan(folder: Path, prefix: str, selection: Selection, ancestors: tuple[Inode, ...]) -> Iterator[Entry]:
    try:
        ancestors = _descend(folder / prefix, ancestors)
        if not ancestors:
            return
        with os.scandir(folder / prefix) as listing:
            # Paths below a folder continue with "/", so that is how the folder's name sorts.
            entries = sorted((_sort_key(e), e) for e in listing)
            sidecars = {entry.name for _, entry in entries if is_sidecar(entry.name)}
            selected = [
                (is_folder, entry)
                for (_, is_folder), entry in entries
                if (
                    not selection.excludes(f"{prefix}{entry.name}/")
                    if is_folder
                    else entry.name not in sidecars and selection.matches(prefix + entry.name)
                )
            ]
    except (OSError, SettingsError) as exc:
        yield Unlisted(prefix, _unreadable(exc))
        return
    del entries
    for is_folder, entry in selected:
        path = prefix + entry.name
        if not is_folder:
            yield _file(folder, path, selection, find_sidecar(folder, path, selection, sidecars), entry)
        elif entry.is_symlink() and not selection.follows(path):
            yield Skipped(f"{path}/", LINK_OUT)
        else:
            yield from _scan(folder, f"{path}/", selection, ancestors)


def _file(
    folder: Path, path: str, selection: Selection, sidecar: Sidecar | None, entry: "os.DirEntry[str] | None" = None
) -> Entry:
    """Return the file, or why it is skipped."""
    if not selection.is_image(path):
        return Skipped(path, file_type(path))
    is_link = entry.is_symlink() if entry else (folder / path).is_symlink()
    if is_link and not selection.follows(path):
        return Skipped(path, LINK_OUT)
    return _stat(folder, path, sidecar, entry)


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


def _stat(folder: Path, path: str, sidecar: Sidecar | None, entry: "os.DirEntry[str] | None") -> Entry:
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
    if not stat.S_ISREG(status.st_mode):
        return Skipped(path, NOT_REGULAR)
    ctime = status.st_ctime_ns if time.time_ns() - status.st_ctime_ns > CLOCK_STEP else 0
    # In nanoseconds, the years after 2262 do not fit a bigint.
    mtime = max(-_MAX_TIME, min(status.st_mtime_ns, _MAX_TIME))
    return LocalFile(path, folder, status.st_size, mtime, min(ctime, _MAX_TIME), sidecar)


def _unreadable(exc: OSError | SettingsError) -> ImageRefused:
    cause = exc.strerror if isinstance(exc, OSError) else exc
    return ImageRefused(Reason.UNREADABLE, f"it cannot be read: {cause}", final=False)
