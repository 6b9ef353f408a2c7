"""Reading of the body of a new object, in pieces and with a check of its SHA-256."""

import hashlib
from collections.abc import Iterator
from pathlib import Path

from shared.errors import ImageRefused, Reason
from shared.local_files import open_regular


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
