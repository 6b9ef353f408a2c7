"""What is to be stored, read in pieces and checked against its SHA-256 on the way."""

import hashlib
from collections.abc import Iterator
from pathlib import Path

from shared.errors import ImageRefused, Reason


def read_pieces(body: bytes | Path, *, sha256: str, size: int) -> Iterator[bytes]:
    """Yield *body* in pieces of *size* bytes, the last one shorter; nothing is yielded for an empty one.

    For a Path, raises ImageRefused: UNREADABLE when it cannot be read, and after the last piece CHANGED when what was
    read is not what *sha256* (hex) speaks of. Its bytes may have changed since they were looked at first.
    """
    if isinstance(body, bytes):
        yield from (body[start : start + size] for start in range(0, len(body), size))
        return
    digest = hashlib.sha256()
    try:
        with body.open("rb") as file:
            while piece := file.read(size):
                digest.update(piece)
                yield piece
    except OSError as exc:
        detail = f"cannot read {body}: {exc.strerror}"
        raise ImageRefused(Reason.UNREADABLE, detail, final=False) from exc
    if digest.hexdigest() != sha256:
        raise ImageRefused(Reason.CHANGED, f"{body} changed while it was being stored", final=False)
