"""Samples of TIFF files that Pillow misreads or refuses: of more than 8 bits, signed, or floating point.

tifffile reads the structure of the file, and imagecodecs unpacks the samples.
"""

from typing import IO, Any

import numpy as np
import tifffile
from numpy.typing import NDArray
from PIL import Image

from shared.errors import ImageRefused, Reason

Array = NDArray[Any]

_EXTRA_SAMPLES, _NODATA = 338, 42113
_WHITE_IS_ZERO, _PALETTE, _CIE_LAB = 0, 3, 8  # photometric interpretations
_ASSOCIATED = 1  # alpha


def read_page(file: IO[bytes], index: int, mode: str) -> Image.Image:
    """Return a page in *mode* (L, RGB, CMYK or LAB), L and RGB with alpha where it is transparent.

    Raises ImageRefused(UNSUPPORTED) for too few channels, and what tifffile raises for a malformed file.
    """
    file.seek(0)
    with tifffile.TiffFile(file, name="image.tif") as tiff:
        page: Any = tiff.pages[index]
        planes, _, height, width, samples = page.shaped
        values = page.asarray(squeeze=False, maxworkers=1)[:, 0]
        return _to_image(np.moveaxis(values, 0, -2).reshape(height, width, planes * samples), page, mode)


def _to_image(values: Array, page: Any, mode: str) -> Image.Image:
    """Return samples [height, width, channels] as an image of 8 bits per channel."""
    photometric = int(page.photometric)
    if photometric == _PALETTE:
        colours = (page.colormap >> 8).astype(np.uint8)
        return Image.fromarray(colours[:, values[..., 0]].transpose(1, 2, 0))
    count = len(Image.new(mode, (1, 1)).getbands())
    if values.shape[-1] < count:
        raise ImageRefused(Reason.UNSUPPORTED, f"TIFF with {values.shape[-1]} channels for {mode} is not supported")
    kinds = page.tags.valueof(_EXTRA_SAMPLES) or ()
    alpha_kind = int(kinds[0]) if isinstance(kinds, tuple) and kinds else int(kinds or 0)
    alpha = values[..., count : count + 1] if alpha_kind and values.shape[-1] > count and mode in ("L", "RGB") else None
    values = values[..., :count]
    bits = page.bitspersample
    pixels = (
        _lab(values, signed=photometric == _CIE_LAB)
        if mode == "LAB"
        else _eight_bits(values, bits, page.nodata if _NODATA in page.tags else None)
    )
    if photometric == _WHITE_IS_ZERO:
        pixels = 255 - pixels
    if alpha is None:
        return _image(pixels, mode)
    if mode == "L":
        pixels, mode = pixels.repeat(3, axis=-1), "RGB"
    pixels = np.concatenate([pixels, _eight_bits(alpha, bits, None)], axis=-1)
    return _image(pixels, "RGBa").convert("RGBA") if alpha_kind == _ASSOCIATED else _image(pixels, "RGBA")


def _image(pixels: Array, mode: str) -> Image.Image:
    return Image.frombytes(mode, (pixels.shape[1], pixels.shape[0]), pixels.tobytes())


def _lab(values: Array, *, signed: bool) -> Array:
    """Return CIE Lab with signed a and b of 8 bits, as Pillow unpacks it."""
    if values.dtype.itemsize > 1:
        values = values.view(f"u{values.dtype.itemsize}") >> (8 * values.dtype.itemsize - 8)
    pixels = values.astype(np.uint8)
    if not signed:
        pixels[..., 1:] ^= 128
    return pixels


def _eight_bits(values: Array, bits: int, nodata: float | None) -> Array:
    """Return samples [height, width, channels] of any type as 8 bits.

    Unsigned integers keep their white, except grey ones of more than 16 bits, which are measurements. These and all
    others are stretched. Samples that are no numbers, or that the file declares to be missing, become white.
    """
    if values.dtype.kind in "ub" and (bits <= 16 or values.shape[-1] > 1):
        return ((values >> (bits - 8)) if bits >= 8 else values * (255 // (2**bits - 1))).astype(np.uint8)
    missing = ~np.isfinite(values)
    if nodata is not None:
        missing |= values == nodata
    if missing.all():
        return np.full(values.shape, 255, np.uint8)
    known = np.ma.array(values, mask=missing, copy=False)
    low, high = float(known.min()), float(known.max())
    if values.dtype.kind == "f" and low >= 0 and high <= 1:
        low, high = 0, 1
    # In place, because pictures are large.
    scaled = values.astype(np.float32)
    scaled -= low
    scaled *= 255 / (high - low) if high > low else 0
    scaled[missing] = 255
    return np.clip(scaled, 0, 255, out=scaled).astype(np.uint8)
