"""Bodies of objects in pieces: those of new objects with a check of their SHA-256, those of others decompressed."""

import gzip
import hashlib
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import IO

from shared.errors import ImageRefused, Reason
from shared.local_files import open_regular

MAX_GUNZIPPED = 1 << 30  # bytes: a small object can contain any number


def gunzip(key: str, body: IO[bytes], *, size: int) -> Iterator[bytes]:
    """Yield the decompressed *body* of the object *key* in pieces of *size* bytes.

    Raises ImageRefused: CORRUPT for a body that is not gzip, TOO_LARGE for more than MAX_GUNZIPPED bytes.
    """
    total = 0
    try:
        with gzip.GzipFile(fileobj=body) as file:
            while piece := file.read(size):
                total += len(piece)
                if total > MAX_GUNZIPPED:
                    detail = f"object {key!r} has more than {MAX_GUNZIPPED:,} bytes when decompressed"
                    raise ImageRefused(Reason.TOO_LARGE, detail)
                yield piece
    except (gzip.BadGzipFile, EOFError, zlib.error) as exc:
        detail = f"object {key!r} says Content-Encoding: gzip and cannot be decompressed: {exc}"
        raise ImageRefused(Reason.CORRUPT, detail) from exc


def read_pieces(body: bytes | Path, *, sha256: str, size: int) -> Iterator[bytes]:
    """Yield *body* in pieces of *size* bytes, the last one shorter; yield nothing for an empty one.

    For a Path, raises ImageRefused: UNREADABLE when the file cannot be read, and CHANGED after the last piece when the
    bytes do not have the hash *sha256* (hex), because the file changed since it was hashed.
    """
    if isinstance(body, bytes):
        yield from (body[start : start + size] for start in range(0, len(body), size))
        return
    digest = hashlib.sha256()
    try:
        with open_regular(body) as file:
            while piece := file.read(size):
                digest.update(piece)
                yield piece
    except OSError as exc:
        detail = f"cannot read {body}: {exc.strerror}"
        raise ImageRefused(Reason.UNREADABLE, detail, final=False) from exc
    if digest.hexdigest() != sha256:
        raise ImageRefused(Reason.CHANGED, f"{body} changed during the upload", final=False)
