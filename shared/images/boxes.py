"""Boxes of ISO base media files: HEIC, AVIF, JPEG 2000 and JPEG XL."""

import io
from collections.abc import Iterator
from dataclasses import dataclass

File = io.BytesIO | io.BufferedReader

_FULL_BOXES = frozenset({b"meta"})  # four bytes of version and flags before their content


@dataclass(frozen=True)
class Box:
    """A box of a file: its content lies between *start* and *end*. *declared_end* may lie beyond the file."""

    kind: bytes
    start: int
    end: int
    declared_end: int

    def read(self, file: File, limit: int) -> bytes:
        """Return the first *limit* bytes of the content."""
        file.seek(self.start)
        return file.read(max(0, min(limit, self.end - self.start)))


def find_boxes(file: File, *path: bytes) -> Iterator[Box]:
    """Yield the boxes at *path*, kinds from the outermost to the innermost."""
    yield from _find(file, 0, file.seek(0, io.SEEK_END), path)


def declared_length(file: File) -> int:
    """Return the length of the file by the sizes of its boxes, without garbage that follows them."""
    boxes = _boxes(file, 0, file.seek(0, io.SEEK_END))
    return max((box.declared_end for box in boxes if box.kind.isalnum()), default=0)


def _find(file: File, start: int, end: int, path: tuple[bytes, ...]) -> Iterator[Box]:
    for box in _boxes(file, start, end):
        if box.kind == path[0] and len(path) == 1:
            yield box
        elif box.kind == path[0]:
            yield from _find(file, box.start + (4 if box.kind in _FULL_BOXES else 0), box.end, path[1:])


def _boxes(file: File, start: int, end: int) -> Iterator[Box]:
    while start + 8 <= end:
        file.seek(start)
        header = file.read(16)
        size, content = int.from_bytes(header[:4]), start + 8
        if size == 1:
            size, content = int.from_bytes(header[8:16]), start + 16
        stop = end if size == 0 else start + size
        if not content <= stop:
            return
        yield Box(header[4:8], content, min(stop, end), stop)
        start = stop
