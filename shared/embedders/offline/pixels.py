"""Preprocessing of the offline model. Runs in a decoder worker, so it imports no model."""

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from shared.images import open_rgb

_SIDE = 10  # patches of 32 x 32 pixels; images of any shape become 10 x 10 patches in area
_MIN_ASPECT = 0.5  # width to height; narrower images, and those wider than the inverse, are squeezed


def model_size(width: int, height: int) -> tuple[int, int]:
    """Return the size of the model's input for an image: about 320 x 320 pixels, multiples of 32."""
    side = np.sqrt(np.clip(width / height, _MIN_ASPECT, 1 / _MIN_ASPECT))
    return 32 * int(np.rint(_SIDE * side)), 32 * int(np.rint(_SIDE / side))


def read_pixels(data: bytes) -> NDArray[np.uint8]:
    """Return the whole frame of the image, upright and resized, as RGB values [height, width, 3].

    Raises ImageRefused.
    """
    return np.asarray(resize(open_rgb(data)))


def resize(image: Image.Image) -> Image.Image:
    """Return *image* in the size of the model's input."""
    return image.resize(model_size(*image.size), Image.Resampling.BICUBIC)
