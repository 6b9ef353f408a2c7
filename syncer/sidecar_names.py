"""Names of XMP sidecars: ``a.jpg.xmp`` or ``a.xmp`` for ``a.jpg``."""

import os
from collections.abc import Iterator

_SUFFIXES = (".xmp", ".XMP")


def is_sidecar(path: str) -> bool:
    return path.endswith(_SUFFIXES)


def sidecar_names(path: str) -> Iterator[str]:
    """Yield the names that a sidecar of the image *path* may have, the preferred one first."""
    for stem in (path, os.path.splitext(path)[0]):
        for suffix in _SUFFIXES:
            yield stem + suffix
