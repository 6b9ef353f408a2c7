import struct
from datetime import datetime

import pytest
from PIL.PngImagePlugin import PngInfo

from shared.images import examine
from shared.images.metadata.iptc import describe
from tests.helpers import corpus
from tests.helpers.pictures import encode


def record(number: int, value: bytes) -> bytes:
    return struct.pack(">BBBH", 0x1C, 2, number, len(value)) + value


BLOCK = b"".join(
    [
        record(5, b"Heron"),
        record(120, "Am Zürichsee".encode("latin-1")),
        record(25, b"bird"),
        record(25, "Zürich".encode()),
        record(55, b"20240531"),
        record(60, b"102030+0200"),
        record(80, b"Zo\xc3\xab"),
        record(90, b"Z\xc3\xbcrich"),
    ]
)


def test_texts_keywords_and_times_are_read() -> None:
    found = describe(BLOCK)
    assert found.texts == {"title": "Heron", "caption": "Am Zürichsee", "artist": "Zoë", "city": "Zürich"}
    assert found.keywords == ["bird", "Zürich"]
    taken = found.taken["original"]
    assert (taken.local, taken.offset) == (datetime(2024, 5, 31, 10, 20, 30), 120)


def test_a_date_without_time_and_long_values_are_read() -> None:
    extended = struct.pack(">BBBHI", 0x1C, 2, 120, 0x8004, 5) + b"Heron"
    found = describe(b"rubbish" + extended + record(55, b"20240531"))
    assert found.texts == {"caption": "Heron"}
    assert found.taken["original"].local == datetime(2024, 5, 31)


@pytest.mark.parametrize("type_", [1, 4, 7])
def test_the_block_of_a_tiff_is_read_from_any_type(type_: int) -> None:
    block = BLOCK + bytes(-len(BLOCK) % 4)
    # One grey pixel, whose value is the first byte of the file.
    shorts = {256: 1, 257: 1, 258: 8, 259: 1, 262: 1, 273: 0, 277: 1, 278: 1, 279: 1}
    pixel = [(tag, 3, 1, struct.pack("<H", value)) for tag, value in shorts.items()]
    tag = (33723, type_, len(block) // (4 if type_ == 4 else 1), block)
    data = corpus.raw_exif(*pixel, tag).removeprefix(b"Exif\0\0")
    assert examine(data, derivatives=False).metadata.keywords == ("bird", "Zürich")


def test_the_text_chunk_of_imagemagick_is_read() -> None:
    texts = PngInfo()
    texts.add_text("Raw profile type iptc", f"\niptc\n{len(BLOCK):8}\n{BLOCK.hex()}\n", zip=True)
    data = encode(corpus.marked(), "PNG", pnginfo=texts)
    assert examine(data, derivatives=False).metadata.title == "Heron"
