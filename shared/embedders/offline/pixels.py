"""What the offline model sees of an image. Runs in a decoding worker, so it imports no model."""

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from shared.images import open_rgb

_AREA = 10  # squared, the patches of 32 x 32 pixels that an image is given, whatever its shape
_NARROWEST = 0.5  # width to height; what is narrower, or wider than 1 / this, is squeezed


def model_size(width: int, height: int) -> tuple[int, int]:
    """Return the width and height at which an image is shown to the model: about 320 x 320 pixels, multiples of 32."""
    side = np.sqrt(np.clip(width / height, _NARROWEST, 1 / _NARROWEST))
    return 32 * int(np.rint(_AREA * side)), 32 * int(np.rint(_AREA / side))


def read_pixels(data: bytes) -> NDArray[np.uint8]:
    """Return the whole frame of the image, upright and resized, as RGB values [height, width, 3].

    Raises ImageRefused.
    """
    image = open_rgb(data, colour_profile=False)
    return np.asarray(image.resize(model_size(*image.size), Image.Resampling.BICUBIC))
