import io
import struct

import numpy as np
import pytest
from PIL import Image

from shared.images import examine, open_rgb
from shared.images.jpeg_xl import read_header
from tests.helpers.corpus import assert_upright, display_p3, exif_bytes, jpeg_xl, marked, oriented, photo, shown
from tests.helpers.pictures import encode

# Squares made by cjxl 0.7: Display P3 and BT.2020 with PQ by code points, and lossy with a profile.
P3 = bytes.fromhex("ff0a434040263702080201005c004b188b1500d48c3118c70b44004048241006f9036a6b00")
PQ = bytes.fromhex("ff0a43041090478f381c0000000002080201005c004b188b1500d48c3118c70b44004048241006f9036a6b00")
PROFILE = bytes.fromhex(
    "ff0a43400a770a0312e60190a92b0ca0f77baa312a38cf2809151e0b4a68c85bc8c92e1a8a553a62b19628942ebaa2f04c00ebeebbee96fa17e0"
    "1567c904c1e7506244891bbe455e6826bfc3ed94070efcc2747ffefdfb7707abf8036373a1640e060d868e1a883407dab512004ea7019166c2db"
    "330012880200dc005de5120000152aa38c1bbc9cebf9f24387c5b48deb0c6db56d6149a2c8383649277048126b20eee68503000021e63d1cc308"
    "866e514902"
)


@pytest.mark.parametrize(("data", "expected"), [(P3, (218, 0, 26)), (PQ, (255, 0, 0)), (PROFILE, (220, 0, 22))])
def test_colours_equal_those_in_chromium(data: bytes, expected: tuple[int, ...]) -> None:
    assert np.abs(np.subtract(shown(data).getpixel((8, 8)), expected)).max() <= 3


@pytest.mark.parametrize(
    "size", [(1, 1), (8, 8), (256, 256), (300, 200), (320, 240), (120, 100), (513, 7), (9000, 3), (160, 90)]
)
def test_the_size_is_known_before_decoding(size: tuple[int, int]) -> None:
    for image in (Image.new("L", size), Image.new("RGB", size), Image.new("RGBA", size)):
        assert read_header(io.BytesIO(jpeg_xl(image))).size == size


@pytest.mark.parametrize("depth", ["u2", "f4"])
def test_deeper_samples_are_shown_by_their_light(depth: str) -> None:
    # The encoder declares them as linear.
    light = np.linspace(0, 1, 64)
    expected = np.maximum(1.055 * light ** (1 / 2.4) - 0.055, 0) * 255
    samples = light.reshape(1, 64).repeat(8, axis=0) * (65535 if depth == "u2" else 1)
    row = np.asarray(shown(jpeg_xl(samples.astype(depth))))[0, :, 0]
    assert np.abs(row - expected).max() <= 5


def test_transparent_areas_become_white() -> None:
    assert shown(jpeg_xl(Image.new("RGBA", (8, 8), (10, 20, 30, 0)))).getpixel((4, 4)) == (255, 255, 255)


def test_a_packed_jpeg_keeps_its_orientation_and_profile() -> None:
    assert_upright(shown(jpeg_xl(oriented(6))))
    plain = encode(photo(64, 48), icc_profile=display_p3())
    assert np.array_equal(shown(jpeg_xl(plain)), shown(plain))
    assert np.array_equal(open_rgb(jpeg_xl(plain)), open_rgb(plain))


def test_metadata_is_read_from_the_boxes() -> None:
    codestream = jpeg_xl(marked(64, 48))

    def box(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I4s", len(data) + 8, kind) + data

    exif = exif_bytes({0x0110: "Model 1", 0x0112: 6}).removeprefix(b"Exif\0\0")
    data = box(b"JXL ", b"\r\n\x87\n") + box(b"ftyp", b"jxl \0\0\0\0jxl ")
    found = examine(data + box(b"Exif", bytes(4) + exif) + box(b"jxlc", codestream), derivatives=False)
    assert found.metadata.camera == "Model 1"
    # The decoder applies the orientation of the codestream; that of EXIF only repeats it.
    assert (found.width, found.height) == (64, 48)
