"""Blocks that no software would write: metadata is read as far as possible, and what is read can be stored."""

import json
import struct

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL.ExifTags import GPS, IFD, Base

from shared.images import Metadata, examine
from shared.images.metadata import iptc, xmp
from shared.images.metadata.description import Description
from tests.helpers import corpus

POINTERS = {IFD.Exif: 8, IFD.GPSInfo: 8}  # both directories are the main one
TAGS = sorted({*map(int, Base), *map(int, GPS), 700, 33723} - {*POINTERS, 0x0112})
TYPES = range(14)
PICTURE = corpus.jpeg(16, 16)


def read(block: bytes) -> Metadata:
    """Return the metadata of a JPEG with this EXIF block, after checks that they fit their columns."""
    segment = b"\xff\xe1" + struct.pack(">H", min(len(block) + 2, 65_535)) + block[:65_533]
    found = examine(corpus.with_segment(PICTURE, segment), derivatives=False).metadata
    assert_storable(found)
    return found


def assert_storable(found: Metadata) -> None:
    texts = [found.camera, found.lens, found.title, found.caption, *found.keywords]
    stored = json.dumps([*texts, found.exif], allow_nan=False, ensure_ascii=False)
    stored.encode()  # no lone surrogate
    assert "\\u0000" not in stored
    assert len(stored) < 60_000
    assert found.taken_local is None or 1826 <= found.taken_local.year <= 9999
    assert abs(found.taken_offset or 0) <= 840
    assert abs(found.latitude or 0) <= 90
    assert abs(found.longitude or 0) <= 180


@pytest.mark.parametrize("type_", TYPES)
@pytest.mark.parametrize("byte", [b"\0", b"\xff", b"1", b"\x80\x00\x01"])
def test_every_tag_may_have_any_type(type_: int, byte: bytes) -> None:
    for count in (0, 1, 3, 8):
        value = (byte * 64)[: 8 * count]
        read(corpus.raw_exif(*((tag, type_, count, value) for tag in TAGS), sub_directories=POINTERS))


@given(
    entries=st.dictionaries(
        st.sampled_from(TAGS),
        st.tuples(st.sampled_from(TYPES), st.integers(0, 2**32 - 1) | st.integers(0, 64), st.binary(max_size=64)),
        max_size=12,
    ),
    pointers=st.dictionaries(st.sampled_from(sorted(POINTERS)), st.integers(0, 200) | st.just(8), max_size=3),
    length=st.none() | st.integers(0, 200),
)
@settings(max_examples=300)
def test_any_exif_block_is_read(
    entries: dict[int, tuple[int, int, bytes]], pointers: dict[int, int], length: int | None
) -> None:
    # Pointers to 8 are cycles; a length truncates the block.
    rows = [(tag, *entry) for tag, entry in entries.items() if tag not in pointers]
    read(corpus.raw_exif(*rows, sub_directories=pointers)[:length])


records = st.lists(st.tuples(st.integers(0, 255), st.integers(0, 255), st.integers(0, 65_535), st.binary(max_size=40)))


@given(
    records.map(lambda rows: b"".join(struct.pack(">BBBH", 0x1C, *row[:3]) + row[3] for row in rows))
    | records.map(lambda rows: b"".join(struct.pack(">BBBH", 0x1C, 2, row[1], len(row[3])) + row[3] for row in rows))
    | st.binary()
)
@settings(max_examples=300)
def test_any_iptc_block_is_read(block: bytes) -> None:
    assert isinstance(iptc.describe(block), Description)
    found = examine(corpus.with_segment(PICTURE, corpus.photoshop_segment(block[:60_000])), derivatives=False)
    assert_storable(found.metadata)


names = st.sampled_from(
    [name for sources in xmp.TEXTS.values() for name in sources]
    + [*xmp.KEYWORDS, *xmp.KEYWORD_PATHS, "xmp:Rating", "exif:GPSLatitude", "exif:GPSLongitude"]
    + [name for sources in xmp.TIMES.values() for name in sources]
)
elements = st.recursive(
    st.text(st.characters(exclude_characters="<&"), max_size=30) | st.floats().map(str),
    lambda inner: st.builds(
        lambda name, content: f"<{name}>{''.join(content)}</{name}>",
        names | st.sampled_from(["rdf:Bag", "rdf:li", "rdf:Description", "rdf:value"]),
        st.lists(inner, max_size=4),
    ),
    max_leaves=20,
)
PREFIXES = " ".join(f'xmlns:{prefix}="{uri}"' for uri, prefix in xmp.NAMESPACES.items() if not uri.endswith("1.0"))


@given(elements, st.none() | st.integers(0, 4000))
@settings(max_examples=300)
def test_any_xmp_packet_is_read(body: str, length: int | None) -> None:
    packet = f"<rdf:RDF xmlns:rdf='http://www.w3.org/1999/02/22-rdf-syntax-ns#' {PREFIXES}>{body}</rdf:RDF>"
    data = packet.encode(errors="replace")[:length]
    assert isinstance(xmp.describe(data), Description)
    if len(data) < 60_000:
        assert_storable(examine(corpus.jpeg(16, 16, xmp=data), derivatives=False).metadata)


def test_a_huge_packet_is_read_or_ignored() -> None:
    item = "<rdf:li>word</rdf:li>"
    for count in (100_000, 300_000):
        body = f"<dc:subject><rdf:Bag>{item * count}</rdf:Bag></dc:subject>"
        packet = f"<rdf:RDF xmlns:rdf='http://www.w3.org/1999/02/22-rdf-syntax-ns#' {PREFIXES}>{body}</rdf:RDF>"
        assert set(xmp.describe(packet.encode()).keywords) == ({"word"} if count == 100_000 else set())
