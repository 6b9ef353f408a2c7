import io
import struct
import zlib

import numpy as np
import pytest

from shared.images import examine
from tests.helpers.corpus import BLUE, RED, assert_upright, display_p3, garbage, marked, png, png_chunk, shown

SAMPLES = np.asarray(marked(64, 48))


def damaged(chunk: bytes) -> bytes:
    """Return *chunk* with a wrong checksum."""
    return chunk[:-4] + bytes(byte ^ 255 for byte in chunk[-4:])


def text(kind: bytes, value: bytes) -> bytes:
    return png_chunk(kind, b"Comment\0" + value)


BIG_TEXT = b"\0" + zlib.compress(bytes(100 << 20), 9)
HARMLESS = {
    "checksum of the resolution": damaged(png_chunk(b"pHYs", struct.pack(">IIB", 2835, 2835, 1))),
    "checksum of a text": damaged(text(b"tEXt", b"hello")),
    "checksum of a profile": damaged(png_chunk(b"iCCP", b"P3\0\0" + zlib.compress(display_p3()))),
    "checksum of a gamma": damaged(png_chunk(b"gAMA", struct.pack(">I", 100_000))),
    "checksum of a transparent colour": damaged(png_chunk(b"tRNS", struct.pack(">HHH", *RED))),
    "short resolution": png_chunk(b"pHYs", b"\0\0\1"),
    "short gamma": png_chunk(b"gAMA", b"\0"),
    "short chromaticities": png_chunk(b"cHRM", bytes(8)),
    "short transparent colour": png_chunk(b"tRNS", b"\0"),
    "profile that is no profile": png_chunk(b"iCCP", b"P3\0\0" + garbage(200)),
    "huge compressed text": text(b"zTXt", BIG_TEXT),
    "huge international text": text(b"iTXt", b"\1\0\0\0" + BIG_TEXT[1:]),
    "unknown chunk": png_chunk(b"abCd", garbage(100)),
    "animation without frames": png_chunk(b"acTL", bytes(2)),
}


@pytest.mark.parametrize("name", HARMLESS)
@pytest.mark.parametrize("place", ["before", "after"])
def test_a_damaged_chunk_beside_the_pixels_does_not_matter(name: str, place: str) -> None:
    chunk = HARMLESS[name]
    data = png(SAMPLES, 8, chunk) if place == "before" else png(SAMPLES, after=chunk)
    assert_upright(shown(data), tolerance=1)
    assert not examine(data, derivatives=False).truncated


def test_checksums_of_the_pixels_and_what_follows_the_end_do_not_matter() -> None:
    whole = png(SAMPLES)
    wrong = whole[:-16] + bytes(4) + whole[-12:]  # the checksum of the pixels
    for data in (wrong, whole + garbage(), whole[:-12], whole[:-4]):
        assert_upright(shown(data), tolerance=1)
        assert not examine(data, derivatives=False).truncated


def test_metadata_survives_damage_of_another_chunk() -> None:
    exif = io.BytesIO()
    exif.write(b"II*\0\x08\0\0\0\x01\0" + struct.pack("<HHII", 0x0112, 3, 1, 6) + bytes(4))
    data = png(SAMPLES, 8, png_chunk(b"eXIf", exif.getvalue()), HARMLESS["short resolution"])
    found = examine(data, derivatives=False)
    assert (found.width, found.height) == (48, 64)


@pytest.mark.parametrize("depth", [1, 2, 4, 8, 16])
def test_a_transparent_grey_becomes_white_in_every_depth(depth: int) -> None:
    top = 2**depth - 1
    samples = np.full((8, 8), top if depth > 1 else 0)
    samples[:, :4] = clear = 1  # black in 2 to 16 bits
    image = shown(png(samples, depth, png_chunk(b"tRNS", struct.pack(">H", clear))))
    assert image.getpixel((1, 1)) == (255, 255, 255)
    assert image.getpixel((6, 1)) == ((0, 0, 0) if depth == 1 else (255, 255, 255))
    near = np.full((8, 8), 2 % (top + 1))
    scaled = round(int(near[0, 0]) * 255 / top)
    (red, *_), expected = shown(png(near, depth, png_chunk(b"tRNS", struct.pack(">H", clear)))).getpixel((1, 1)), scaled  # type: ignore[misc]
    assert abs(red - expected) <= 1


@pytest.mark.parametrize("depth", [8, 16])
def test_a_transparent_colour_becomes_white_and_its_neighbours_stay(depth: int) -> None:
    samples = np.zeros((8, 8, 3), int)
    samples[:, :4] = clear = (10, 20, 30) if depth == 8 else (0x0A01, 0x1402, 0x1E03)
    samples[:, 4:] = np.add(clear, (0, 0, 1))
    image = shown(png(samples, depth, png_chunk(b"tRNS", struct.pack(">HHH", *clear))))
    assert image.getpixel((1, 1)) == (255, 255, 255)
    assert image.getpixel((6, 1)) == (10, 20, 31 if depth == 8 else 30)


def test_transparent_entries_of_a_palette_become_white() -> None:
    indices = np.zeros((8, 8), int)
    indices[:, 4:] = 1
    palette, alpha = png_chunk(b"PLTE", bytes([*RED, *BLUE])), png_chunk(b"tRNS", b"\0")
    image = shown(png(indices, 8, palette, alpha, colour_type=3))
    assert [image.getpixel((x, 1)) for x in (1, 6)] == [(255, 255, 255), BLUE]
