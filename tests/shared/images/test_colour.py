"""Colours as Chromium 156 shows them: the expected values were read from its canvas."""

import io
import struct
import zlib
from collections.abc import Sequence

import numpy as np
import pytest
from PIL import Image, ImageCms

from tests.helpers.corpus import adobe_rgb, exif_bytes, gamma_profile, png, png_chunk, shown
from tests.helpers.pictures import encode

RED = (200, 40, 40)
Colour = tuple[int, ...]


def flat(colour: Colour = RED) -> Image.Image:
    return Image.new("RGB", (16, 16), colour)


def assert_shows(data: bytes, expected: Sequence[int], *, tolerance: int = 2) -> None:
    found = shown(data).getpixel((8, 8))
    assert np.abs(np.subtract(found, expected)).max() <= tolerance, (found, expected)


def cicp(primaries: int, transfer: int) -> bytes:
    return png_chunk(b"cICP", bytes([primaries, transfer, 0, 1]))


def gamma(value: int) -> bytes:
    return png_chunk(b"gAMA", struct.pack(">I", value))


P3_POINTS = png_chunk(b"cHRM", struct.pack(">8I", 31270, 32900, 68000, 32000, 26500, 69000, 15000, 6000))
SRGB = png_chunk(b"sRGB", b"\0")
LINEAR_PROFILE = png_chunk(b"iCCP", b"sRGB\0\0" + zlib.compress(gamma_profile("sRGB linear", 1.0)))


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP", "TIFF", "AVIF"])
def test_a_profile_counts_whatever_its_name(kind: str) -> None:
    grey = Image.new("RGB", (16, 16), (55, 55, 55))
    assert_shows(encode(grey, kind, icc_profile=gamma_profile("sRGB built-in", 1.0), quality=95), (128, 128, 128))
    assert_shows(
        encode(grey, kind, icc_profile=ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()), (55, 55, 55)
    )


def test_a_grey_picture_may_have_a_profile_for_rgb() -> None:
    assert_shows(encode(Image.new("L", (16, 16), 55), "PNG", icc_profile=gamma_profile("Linear", 1.0)), (128, 128, 128))


@pytest.mark.parametrize(
    ("chunks", "stored", "expected"),
    [
        ((gamma(45455),), (128, 64, 0), (128, 64, 0)),
        ((gamma(100_000),), (55, 55, 55), (128, 128, 128)),
        ((gamma(100_000), SRGB), (55, 55, 55), (55, 55, 55)),
        ((P3_POINTS,), (128, 64, 0), (128, 64, 0)),
        ((gamma(100_000), P3_POINTS), (128, 64, 0), (197, 135, 0)),
        ((gamma(0),), (128, 64, 0), (128, 64, 0)),
        ((cicp(12, 13),), (128, 64, 0), (138, 59, 0)),
        ((cicp(1, 8),), (128, 64, 0), (188, 137, 0)),
        ((cicp(9, 1),), (128, 64, 0), (148, 36, 0)),
        ((cicp(9, 16),), (96, 96, 96), (70, 70, 70)),
        ((cicp(9, 16),), (160, 160, 160), (213, 213, 213)),
        ((cicp(9, 16),), (255, 255, 255), (255, 255, 255)),
        ((cicp(9, 16),), (112, 56, 0), (123, 0, 0)),
        ((cicp(9, 18),), (128, 128, 128), (99, 99, 99)),
        ((cicp(9, 18),), (128, 64, 0), (112, 35, 0)),
        ((cicp(9, 18),), (208, 208, 208), (212, 212, 212)),
        ((cicp(2, 2),), (128, 64, 0), (128, 64, 0)),
        ((cicp(12, 13), LINEAR_PROFILE), (128, 64, 0), (138, 59, 0)),
        ((LINEAR_PROFILE, gamma(45455)), (55, 55, 55), (128, 128, 128)),
    ],
)
def test_the_chunks_of_a_png_describe_its_colours(chunks: tuple[bytes, ...], stored: Colour, expected: Colour) -> None:
    assert_shows(png(np.full((16, 16, 3), stored), 8, *chunks), expected, tolerance=3)


def with_code_points(data: bytes, primaries: int, transfer: int) -> bytes:
    """Return an AVIF or HEIC file with other code points (nclx)."""
    place = data.index(b"colrnclx") + 8
    return data[:place] + struct.pack(">HH", primaries, transfer) + data[place + 4 :]


@pytest.mark.parametrize("kind", ["AVIF", "HEIF"])
def test_code_points_of_avif_and_heic_count(kind: str) -> None:
    data = encode(flat((184, 55, 49)), kind)
    assert_shows(data, (184, 55, 49), tolerance=3)
    assert_shows(with_code_points(data, 12, 13), (200, 38, 40), tolerance=4)
    assert_shows(with_code_points(encode(flat((96, 96, 96)), kind), 9, 16), (70, 70, 70), tolerance=3)


def test_exif_may_name_adobe_rgb() -> None:
    expected = shown(encode(flat(), "PNG", icc_profile=adobe_rgb())).getpixel((8, 8))
    assert isinstance(expected, tuple)
    assert expected[0] > 210
    stated = exif_bytes({}, exif={0xA001: 2})
    by_index = exif_bytes({}, exif={0xA001: 0xFFFF, 0xA005: {1: "R03"}})
    for exif in (stated, by_index):
        assert_shows(encode(flat(), quality=95, exif=exif), expected, tolerance=4)
    for exif in (exif_bytes({}, exif={0xA001: 1}), exif_bytes({}, exif={0xA001: 0xFFFF}), b"Exif\0\0II*\0"):
        assert_shows(encode(flat(), quality=95, exif=exif), RED, tolerance=4)


def test_a_profile_in_a_jpeg_2000_file_counts() -> None:
    plain = encode(Image.new("RGB", (16, 16), (55, 55, 55)), "JPEG2000")
    profile = gamma_profile("Linear", 1.0)
    place = plain.index(b"colr") - 4
    size = int.from_bytes(plain[place : place + 4])
    box = struct.pack(">I4sBBB", len(profile) + 11, b"colr", 2, 0, 0) + profile
    header = plain.index(b"jp2h") - 4
    grown = int.from_bytes(plain[header : header + 4]) + len(box) - size
    data = plain[:header] + struct.pack(">I", grown) + plain[header + 4 : place] + box + plain[place + size :]
    assert_shows(data, (128, 128, 128))
    assert_shows(io.BytesIO(plain).getvalue(), (55, 55, 55))
