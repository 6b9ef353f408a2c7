"""IPTC: records that photo agencies and old software write (IPTC-NAA IIM 4)."""

import struct
from collections import defaultdict
from collections.abc import Iterator
from typing import Any

from shared.images.metadata.dates import parse_time
from shared.images.metadata.description import Description
from shared.images.metadata.text import MAX_TEXT, clean

_PHOTOSHOP_RESOURCE = 0x0404
_KEYWORDS = 25
_TEXTS = (
    ("title", 5),
    ("title", 105),
    ("caption", 120),
    ("artist", 80),
    ("copyright", 116),
    ("location", 92),
    ("city", 90),
    ("state", 95),
    ("country", 101),
)


def find_block(info: dict[Any, Any]) -> bytes:
    """Return the IPTC block in Pillow's ``info`` of a JPEG or PNG; b"" without one."""
    photoshop = info.get("photoshop")
    if isinstance(photoshop, dict):
        return bytes(photoshop.get(_PHOTOSHOP_RESOURCE, b""))
    # ImageMagick writes a text chunk: a name, a length, hexadecimal digits.
    return bytes.fromhex("".join(str(info.get("Raw profile type iptc", "")).split()[2:]))


def describe(block: bytes) -> Description:
    """Return the description in an IPTC block, as far as it can be read."""
    records = defaultdict(list)
    for number, value in _records(block):
        records[number].append(value)
    found = Description()
    for name, number in _TEXTS:
        found.add_text(name, clean(records[number], MAX_TEXT))
    found.add_keywords(map(clean, records[_KEYWORDS]))
    for kind, date, time in (("original", 55, 60), ("digitized", 62, 63)):
        found.add_time(kind, parse_time(f"{clean(records[date])} {clean(records[time])}"))  # type: ignore[arg-type]
    return found


def _records(block: bytes) -> Iterator[tuple[int, bytes]]:
    """Yield number and content of each dataset of the application record, up to the first malformed one."""
    at = max(0, block.find(b"\x1c"))
    while len(block) >= at + 5 and block[at] == 0x1C:
        record, number, length = struct.unpack_from(">BBH", block, at + 1)
        at += 5
        if length & 0x8000:  # the length of the length
            extended = length & 0x7FFF
            length = int.from_bytes(block[at : at + extended])
            at += extended
        if record == 2:
            yield number, block[at : at + length]
        at += length
