"""Names of files and objects: their types, XMP sidecars, and system folders."""

import os
import re
from collections.abc import Iterator

_LONGEST_SUFFIX = 10  # characters: a longer one is part of the name
_SIDECAR_SUFFIXES = (".xmp", ".XMP")
# Deleted files, snapshots, thumbnails and other copies of network storage, operating systems and photo programs.
_SYSTEM_FOLDER = re.compile(
    r"(?<![^/])(?:@eadir|@tmp|@synoresource|#recycle|#snapshot|@recycle|@recently-snapshot"
    r"|\$recycle\.bin|recycler|recycled|found\.\d{3}|system volume information|lost\+found|__macosx"
    r"|[^/]*\.(?:lrdata|lrcat-data)|[^/]*\.cocatalog/cache|captureone/cache"
    r"|[^/]*\.photoslibrary/(?:resources|scopes)|[^/]*\.(?:photolibrary|aplibrary)/(?:thumbnails|previews))/",
    re.IGNORECASE,
)


def suffix(path: str) -> str:
    """Return the suffix in lower case with its dot, without white space and slashes that follow it."""
    return os.path.splitext(path.rstrip("/").rstrip())[1].lower()


def file_type(path: str) -> str:
    """Return the suffix of a file that is skipped, without the dot, or "without a suffix"."""
    name = suffix(path)[1:]
    return name if 0 < len(name) <= _LONGEST_SUFFIX else "without a suffix"


def is_sidecar(path: str) -> bool:
    return path.endswith(_SIDECAR_SUFFIXES)


def sidecar_names(path: str) -> Iterator[str]:
    """Yield the names that a sidecar of the image *path* may have: ``a.jpg.xmp`` before ``a.xmp`` for ``a.jpg``."""
    for stem in (path, os.path.splitext(path)[0]):
        for ending in _SIDECAR_SUFFIXES:
            yield stem + ending


def is_system_folder(path: str) -> bool:
    """Return whether the folder *path*, which ends in ``/``, is itself a system folder; its parents do not count."""
    return any(found.end() == len(path) for found in _SYSTEM_FOLDER.finditer(path))


def is_in_system_folder(path: str) -> bool:
    return _SYSTEM_FOLDER.search(path) is not None
