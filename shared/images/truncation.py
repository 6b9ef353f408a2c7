"""Repair of files that end early, in formats whose decoders return whole pictures or nothing.

These decoders finish if zeros stand in place of the missing bytes. The rest of the picture then has flat or garbled
areas; in JPEG 2000, where zeros are empty packets, it has less detail. The decoder of AVIF refuses a picture that seems
to need more bytes than there are, which happens if few are missing; more zeros help.
"""

import io
from collections.abc import Iterator

from shared.images.boxes import File, declared_length
from shared.images.formats import Format

_LEAST_PART = 10  # with less than a tenth of the file, there is nothing to see
_START_OF_TILE = b"\xff\x90\x00\x0a"  # in JPEG 2000; cannot occur in its packets


def ends_early(kind: Format, file: File) -> bool:
    """Return whether the file is shorter than it declares."""
    return _declared_length(kind, file) > file.seek(0, io.SEEK_END)


def padded(kind: Format, file: File) -> Iterator[File]:
    """Yield the file with zeros up to its declared length, then with more zeros in place of its last bytes.

    Yield nothing if the file does not end early, or if less than a tenth of it is left.
    """
    end = _declared_length(kind, file)
    length = file.seek(0, io.SEEK_END)
    if end <= length:
        return
    if kind is Format.WEBP:
        end = _end_of_chunks(file)
    if end > _LEAST_PART * length:
        return
    file.seek(0)
    data = file.read()
    for kept in (length, length * 15 // 16, length * 7 // 8):
        whole = io.BytesIO(data[:kept])
        if kind is Format.WEBP:  # further chunks are gone
            whole.seek(4)
            whole.write((end - 8).to_bytes(4, "little"))
        whole.seek(kept)
        whole.write(bytes(max(0, end - kept)))
        yield whole


def _declared_length(kind: Format, file: File) -> int:
    file.seek(0)
    head = file.read(8)
    if kind is Format.WEBP:
        return int.from_bytes(head[4:], "little") + 8
    if kind is Format.JP2 and head.startswith(b"\xff\x4f"):  # a codestream without boxes
        file.seek(0)
        data = file.read()
        tile = data.rfind(_START_OF_TILE)
        return tile + int.from_bytes(data[tile + 6 : tile + 10]) + 2 if tile > 0 else 0
    return declared_length(file) if kind in {Format.HEIC, Format.AVIF, Format.JP2} else 0


def _end_of_chunks(file: File) -> int:
    """Return where the last chunk of a RIFF file ends by its size."""
    end = 12
    while file.seek(end) and len(header := file.read(8)) == 8:
        size = int.from_bytes(header[4:], "little")
        end += 8 + size + size % 2
    return end
