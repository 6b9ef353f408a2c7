"""Conversion of pixels to sRGB by primaries and transfer function, in linear light."""

from functools import cache
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from shared.images.colour import REC_709, REC_2020, ColourSpace, Primaries, Transfer

Values = NDArray[np.floating[Any]]

# HDR: light of 203 cd/m² is diffuse white, and 1,000 cd/m² the brightest that is shown.
_WHITE_NITS, _PEAK_NITS = 203, 1000
# Light relative to diffuse white -> light on an SDR screen: the curve of Chromium 156, measured with a grey ramp.
_TONE_CURVE = ((0, 1, 1.158, 1.558, 2.088, 2.794, 3.731, 4.926), (0, 0.5, 0.565, 0.665, 0.761, 0.847, 0.922, 1))

_BRADFORD = np.array([[0.8951, 0.2664, -0.1614], [-0.7502, 1.7135, 0.0367], [0.0389, -0.0685, 1.0296]])


def converted(image: Image.Image, space: ColourSpace) -> Image.Image:
    """Return *image* (mode RGB) converted to sRGB."""
    light = _light(space.transfer).astype(np.float32)[np.asarray(image)]
    if space.transfer == "hlg":
        light *= _PEAK_NITS / _WHITE_NITS * (light @ _to_xyz(space.primaries)[1].astype(np.float32))[..., None] ** 0.2
    if space.transfer in ("pq", "hlg"):
        # As in Chromium, the brightest channel in BT.2020 decides, so that hues stay.
        wide = light @ _between(space.primaries, REC_2020).astype(np.float32).T
        brightest = wide.max(axis=-1, keepdims=True).clip(1e-6)
        light *= np.interp(brightest, *_TONE_CURVE).astype(np.float32) / brightest
    light = light @ _between(space.primaries, REC_709).astype(np.float32).T
    return Image.fromarray(_encoding()[(light.clip(0, 1) * 65535).astype(np.uint16)])


@cache
def _encoding() -> NDArray[np.uint8]:
    """Return the value in sRGB of light, from 0 to 65535."""
    light = np.arange(65536) / 65535
    values = np.where(light <= 0.0031308, light * 12.92, 1.055 * light ** (1 / 2.4) - 0.055)
    return np.asarray(np.rint(values * 255), np.uint8)


def _to_xyz(primaries: Primaries) -> Values:
    """Return the matrix from RGB to CIE XYZ."""
    *rgb, white = (np.array([x / y, 1, (1 - x - y) / y]) for x, y in primaries)
    columns = np.stack(rgb, axis=1)
    return columns * np.linalg.solve(columns, white)


def _between(primaries: Primaries, others: Primaries) -> Values:
    """Return the matrix between two kinds of RGB, adapted to the other white by Bradford's method."""
    source, target = _to_xyz(primaries), _to_xyz(others)
    adaptation = (_BRADFORD @ target.sum(axis=1)) / (_BRADFORD @ source.sum(axis=1))
    adapted = np.linalg.solve(_BRADFORD, adaptation[:, None] * (_BRADFORD @ source))
    return np.linalg.solve(target, adapted)


def _light(transfer: Transfer) -> Values:
    """Return the light of the values 0 to 255: relative to diffuse white, for HLG that of the scene."""
    values = np.arange(256) / 255
    match transfer:
        case "srgb":
            return np.where(values <= 0.04045, values / 12.92, ((values + 0.055) / 1.055) ** 2.4)
        case "pq":  # SMPTE ST 2084
            root = values ** (32 / 2523)
            linear: Values = (np.maximum(root - 0.8359375, 0) / (18.8515625 - 18.6875 * root)) ** (16384 / 2610)
            return linear * 10000 / _WHITE_NITS
        case "hlg":  # ARIB STD-B67
            return np.where(
                values <= 0.5, values**2 / 3, (np.exp((values - 0.55991073) / 0.17883277) + 0.28466892) / 12
            )
        case exponent:
            return values**exponent
