import io
from typing import Any

import numpy as np
import pytest
import tifffile
from PIL import Image

from shared.errors import ImageRefused, Reason
from shared.images import examine
from tests.helpers.corpus import assert_upright, gamma_profile, marked, shown, tiff
from tests.helpers.pictures import encode

SAMPLES = np.asarray(marked(64, 48))
DEEP = {
    "16 bits": SAMPLES * np.uint16(257),
    "32 bits": SAMPLES * np.uint32(2**24),
    "float": SAMPLES.astype(np.float32) / 255,
    "half": SAMPLES.astype(np.float16) / 255,
    "double": SAMPLES.astype(np.float64) / 255,
}


@pytest.mark.parametrize("compression", [None, "lzw", "zlib", "zstd", "packbits"])
@pytest.mark.parametrize("planes", ["contig", "separate"])
@pytest.mark.parametrize("name", DEEP)
def test_samples_of_every_type_show_their_colours(name: str, planes: str, compression: str | None) -> None:
    if compression == "packbits" and DEEP[name].dtype.kind == "f":
        pytest.skip("PackBits is for integers")
    options: dict[str, Any] = {"planarconfig": planes, "compression": compression, "predictor": compression == "lzw"}
    assert_upright(shown(tiff(DEEP[name], **options)), tolerance=2)


@pytest.mark.parametrize("kind", [np.uint8, np.uint16, np.uint32, np.float32])
def test_zero_may_be_white(kind: type) -> None:
    top = 1 if kind is np.float32 else np.iinfo(kind).max
    grey = np.full((16, 16), 0, kind)
    grey[:, 8:] = top
    image = shown(tiff(grey, photometric="miniswhite"))
    assert [image.getpixel((x, 8)) for x in (2, 14)] == [(255, 255, 255), (0, 0, 0)]


def test_samples_that_are_no_numbers_or_missing_are_white_and_do_not_change_the_others() -> None:
    heights = np.linspace(100, 900, 64, dtype=np.float32).reshape(1, 64).repeat(48, axis=0)
    expected = np.asarray(shown(tiff(heights)))
    heights[0, :4] = np.nan, np.inf, -np.inf, -9999
    image = np.asarray(shown(tiff(heights, extratags=[(42113, "s", 0, "-9999", True)])))
    assert (image[0, :4] == 255).all()
    assert np.array_equal(image[1:], expected[1:])
    assert (image[1, 0, 0], image[1, -1, 0]) == (0, 255)


def test_a_picture_without_any_number_is_white() -> None:
    assert shown(tiff(np.full((8, 8), np.nan, np.float32))).getpixel((4, 4)) == (255, 255, 255)


def test_inks_of_sixteen_bits_equal_those_of_eight() -> None:
    inks = np.asarray(marked(64, 48).convert("CMYK"))
    eight, sixteen = (shown(tiff(values, photometric="separated")) for values in (inks, inks * np.uint16(257)))
    assert np.array_equal(eight, sixteen)


def test_lab_of_sixteen_bits_equals_that_of_eight() -> None:
    lab = np.zeros((16, 16, 3), np.uint8)
    lab[:] = 140, 40, 216  # a = 40, b = -40
    wide = (lab.astype(np.uint16) << 8) | 0x80
    eight, sixteen = (shown(tiff(values, photometric="cielab")) for values in (lab, wide))
    assert np.array_equal(eight, sixteen)
    red, green, blue = sixteen.getpixel((8, 8))  # type: ignore[misc]
    assert green < red < blue


def test_a_palette_of_eight_bits_is_applied() -> None:
    assert_upright(shown(encode(marked(64, 48).quantize(8), "TIFF")), tolerance=8)


@pytest.mark.parametrize(("kind", "stored"), [("unassalpha", 200), ("assocalpha", 100)])
def test_transparent_samples_of_sixteen_bits_lie_on_white(kind: str, stored: int) -> None:
    samples = np.zeros((16, 16, 4), np.uint16)
    samples[:] = stored * 257, 0, 0, 32896
    red, green, _ = shown(tiff(samples, extrasamples=[kind])).getpixel((8, 8))  # type: ignore[misc]
    assert abs(red - 227) <= 2
    assert abs(green - 127) <= 2


def test_a_small_first_page_is_skipped() -> None:
    small, large = Image.new("RGB", (16, 12), "white"), marked(64, 48)
    pages = encode(small, "TIFF", save_all=True, append_images=[large])
    assert_upright(shown(pages))
    assert examine(pages, derivatives=False).width == 64
    equal = encode(large, "TIFF", save_all=True, append_images=[Image.new("RGB", (64, 48), "white")])
    assert_upright(shown(equal))


def test_neither_the_profile_nor_the_damage_of_a_later_page_changes_the_first() -> None:
    file = io.BytesIO()
    with tifffile.TiffWriter(file) as writer:
        writer.write(SAMPLES, photometric="rgb", metadata=None)
        writer.write(SAMPLES, photometric="rgb", metadata=None, iccprofile=gamma_profile("Linear", 1.0))
    assert_upright(shown(file.getvalue()), tolerance=1)
    assert_upright(shown(file.getvalue()[:-100]), tolerance=1)


@pytest.mark.parametrize("orientation", [1, 6])
def test_samples_of_sixteen_bits_are_shown_upright(orientation: int) -> None:
    samples = np.rot90(SAMPLES) if orientation == 6 else SAMPLES
    data = tiff(samples * np.uint16(257), extratags=[(274, "H", 1, orientation, True)])
    assert_upright(shown(data), tolerance=2)
    assert examine(data, derivatives=False).width == 64


def test_samples_without_known_colours_are_unsupported_and_not_corrupt() -> None:
    data = tiff(np.zeros((16, 16, 3), np.uint16), photometric="logluv")
    with pytest.raises(ImageRefused) as refused:
        examine(data)
    assert refused.value.reason is Reason.UNSUPPORTED
