"""Colour spaces of images, and the conversion to sRGB.

Formats describe their colours by an ICC profile, by code points for video (CICP, ITU-T H.273), or by numbers. A profile
is judged by its content, never by its name: many that are called sRGB are not.
"""

import io
from dataclasses import dataclass
from functools import lru_cache
from itertools import product
from typing import Literal

from PIL import Image, ImageChops, ImageCms

Point = tuple[float, float]  # CIE x and y
Primaries = tuple[Point, Point, Point, Point]  # red, green, blue and white
Transfer = Literal["srgb", "pq", "hlg"] | float  # a number is the exponent of values

_D65 = (0.3127, 0.3290)
REC_709 = ((0.64, 0.33), (0.30, 0.60), (0.15, 0.06), _D65)
REC_2020 = ((0.708, 0.292), (0.170, 0.797), (0.131, 0.046), _D65)
# By number in ITU-T H.273, table 2.
_PRIMARIES: dict[int, Primaries] = {
    1: REC_709,
    4: ((0.67, 0.33), (0.21, 0.71), (0.14, 0.08), (0.310, 0.316)),
    5: ((0.64, 0.33), (0.29, 0.60), (0.15, 0.06), _D65),
    6: ((0.630, 0.340), (0.310, 0.595), (0.155, 0.070), _D65),
    7: ((0.630, 0.340), (0.310, 0.595), (0.155, 0.070), _D65),
    9: REC_2020,
    11: ((0.680, 0.320), (0.265, 0.690), (0.150, 0.060), (0.314, 0.351)),
    12: ((0.680, 0.320), (0.265, 0.690), (0.150, 0.060), _D65),
    22: ((0.630, 0.340), (0.295, 0.605), (0.155, 0.077), _D65),
}
# BT.1886 is the screen for which BT.709 and its relatives are made.
_VIDEO, _VIDEO_TRANSFERS, _SRGB_TRANSFER = 2.4, (1, 6, 14, 15), 13
# By number in ITU-T H.273, table 3.
_TRANSFERS: dict[int, Transfer] = {
    **dict.fromkeys(_VIDEO_TRANSFERS, _VIDEO),
    _SRGB_TRANSFER: "srgb",
    4: 2.2,
    5: 2.8,
    8: 1.0,
    16: "pq",
    17: 2.6,
    18: "hlg",
}
_SRGB = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB"))


@dataclass(frozen=True)
class ColourSpace:
    """An RGB colour space: CIE xy of red, green, blue and white, and the function from values to light."""

    primaries: Primaries
    transfer: Transfer


Colour = ColourSpace | bytes | None  # bytes are an ICC profile, None is sRGB
ADOBE_RGB = ColourSpace(((0.64, 0.33), (0.21, 0.71), (0.15, 0.06), _D65), 563 / 256)  # of 1998


def by_code_points(primaries: int, transfer: int) -> ColourSpace | None:
    """Return the colour space of two numbers of ITU-T H.273, or None for sRGB and if one of them is unknown."""
    function = _TRANSFERS.get(transfer)
    if function is None or primaries not in _PRIMARIES or (function == "srgb" and primaries == 1):
        return None
    return ColourSpace(_PRIMARIES[primaries], function)


def of_photo(primaries: int, transfer: int) -> ColourSpace | None:
    """Return the colour space of two numbers in AVIF or HEIC, where BT.709's transfer function means that of sRGB."""
    return by_code_points(primaries, _SRGB_TRANSFER if transfer in _VIDEO_TRANSFERS else transfer)


def by_gamma(exponent: float, primaries: Primaries = REC_709) -> ColourSpace | None:
    """Return the colour space with light = value ** *exponent*, or None for sRGB or numbers that cannot be right."""
    (red_x, red_y), (green_x, green_y), (blue_x, blue_y), _ = primaries
    doubled_area = (green_x - red_x) * (blue_y - red_y) - (blue_x - red_x) * (green_y - red_y)
    if not 0.2 <= exponent <= 5 or any(y <= 0 for _, y in primaries) or abs(doubled_area) < 0.01:
        return None
    is_rec_709 = all(
        abs(found - expected) < 0.002
        for point, reference in zip(primaries, REC_709, strict=True)
        for found, expected in zip(point, reference, strict=True)
    )
    transfer: Transfer = "srgb" if abs(exponent - 2.2) < 0.02 else exponent
    return None if is_rec_709 and transfer == "srgb" else ColourSpace(primaries, transfer)


def to_srgb(image: Image.Image, colour: Colour) -> Image.Image:
    """Return *image* (mode L, RGB, CMYK or LAB) in mode RGB and sRGB."""
    if image.mode == "LAB":
        source = ImageCms.ImageCmsProfile(ImageCms.createProfile("LAB"))
        return _transformed(image, source)
    if isinstance(colour, ColourSpace) and image.mode in ("L", "RGB"):
        from shared.images.light import converted  # loads NumPy, which takes a tenth of a second

        return converted(image.convert("RGB"), colour)
    if isinstance(colour, bytes):
        try:
            source = ImageCms.ImageCmsProfile(io.BytesIO(colour))
            if image.mode == "L" and source.profile.xcolor_space.strip() == "RGB":
                image = image.convert("RGB")
            if image.mode != "RGB" or not _is_srgb(colour):
                return _transformed(image, source)
        except (ImageCms.PyCMSError, OSError, TypeError, ValueError):
            pass  # a broken profile, or one for other channels
    return image if image.mode == "RGB" else image.convert("RGB")  # which would copy it


@lru_cache(maxsize=16)
def _is_srgb(profile: bytes) -> bool:
    """Return whether the profile changes no colour visibly, as most do: the conversion takes a tenth of the time."""
    cube = bytes(value for colour in product(range(0, 256, 17), repeat=3) for value in colour)
    colours = Image.frombytes("RGB", (64, 64), cube)
    changed = _transformed(colours, ImageCms.ImageCmsProfile(io.BytesIO(profile)))
    return max(most for _, most in ImageChops.difference(colours, changed).getextrema()) <= 2  # type: ignore[misc]


def _transformed(image: Image.Image, source: ImageCms.ImageCmsProfile) -> Image.Image:
    transformed = ImageCms.profileToProfile(image, source, _SRGB, outputMode="RGB")
    assert transformed is not None  # it is not done in place
    return transformed
