"""Lists the images in a folder."""

import os
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from pathlib import Path

from shared.errors import ImageRefused, Reason


@dataclass(frozen=True)
class LocalFile:
    """A file as it was when the folder was listed; ``path`` is relative to the folder, with ``/`` between its parts."""

    path: str
    absolute: Path
    size: int
    mtime_ns: int
    ctime_ns: int

    @property
    def stat(self) -> tuple[int, int, int]:
        return self.size, self.mtime_ns, self.ctime_ns


@dataclass(frozen=True)
class Unlisted:
    """A file or folder that could not be looked at: what lies there is unknown, which is not the same as gone."""

    path: str
    refusal: ImageRefused


def scan(folder: Path, suffixes: Collection[str]) -> Iterator[LocalFile | Unlisted]:
    """Yield the files below *folder* whose names end in *suffixes* (lower case), by path in UTF-8 byte order.

    Hidden files and folders are left out. Links are followed, except those that lead back to where they came from.
    One folder's entries are in memory at a time, and those of the folders above it.
    """
    yield from _scan(folder, "", suffixes, ())


def _scan(
    folder: Path, prefix: str, suffixes: Collection[str], ancestors: tuple[tuple[int, int], ...]
) -> Iterator[LocalFile | Unlisted]:
    try:
        status = folder.stat()
        with os.scandir(folder) as listing:
            # A folder's name is followed by "/" in every path below it, and that is what its place depends on.
            entries = sorted((_sort_key(e), e) for e in listing if not e.name.startswith("."))
    except OSError as exc:
        yield Unlisted(prefix, _unreadable(exc))
        return
    here = (status.st_dev, status.st_ino)
    if here in ancestors:
        return
    for (name, is_folder), entry in entries:
        path = prefix + entry.name
        if is_folder:
            yield from _scan(Path(entry.path), path + "/", suffixes, (*ancestors, here))
        elif os.path.splitext(entry.name)[1].lower() in suffixes:
            yield _look(path, entry, name)


def _sort_key(entry: "os.DirEntry[str]") -> tuple[bytes, bool]:
    try:
        is_folder = entry.is_dir()
    except OSError:
        is_folder = False
    name = entry.name.encode("utf-8", "surrogateescape")
    return (name + b"/" if is_folder else name), is_folder


def _look(path: str, entry: "os.DirEntry[str]", name: bytes) -> LocalFile | Unlisted:
    try:
        name.decode()
    except UnicodeDecodeError:
        readable = path.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")
        return Unlisted(readable, ImageRefused(Reason.KEY_INVALID, "the file's name is not valid UTF-8: rename it"))
    try:
        status = entry.stat()
    except OSError as exc:
        return Unlisted(path, _unreadable(exc))
    return LocalFile(path, Path(entry.path), status.st_size, status.st_mtime_ns, status.st_ctime_ns)


def _unreadable(exc: OSError) -> ImageRefused:
    return ImageRefused(Reason.UNREADABLE, f"it cannot be read: {exc.strerror}", final=False)
