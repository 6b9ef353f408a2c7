"""What CLIP sees of an image, as open_clip and transformers prepare it. Runs in a decoding worker: imports no model."""

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from shared.images import open_rgb

Resampling = Literal["bicubic", "bilinear"]

_FILTERS = {"bicubic": Image.Resampling.BICUBIC, "bilinear": Image.Resampling.BILINEAR}

# Times its shorter side, an image is resized as a whole before the middle is cut out. Of a longer one only the middle
# is resized, whose values differ in the last place: one row of pixels would else become gigabytes.
_LONGEST = 50


@dataclass(frozen=True)
class Preprocessing:
    """How an image becomes an input of *size* (height, width).

    With ``shortest_edge`` its shorter side is brought to that length and the middle cut out, without it the whole
    image is squeezed into the size. ``crop_rounds`` says what becomes of a margin of half a pixel: rounded to the
    even neighbour (torchvision, so open_clip), or cut off (transformers).
    """

    size: tuple[int, int]
    shortest_edge: int | None
    crop_rounds: bool
    resampling: Resampling
    mean: tuple[float, float, float]
    std: tuple[float, float, float]
    rescale: float = 1 / 255

    def resize(self, image: Image.Image) -> Image.Image:
        """Return the part of *image* that the model sees, in the size that it wants."""
        height, width = self.size
        resampling = _FILTERS[self.resampling]
        if self.shortest_edge is None:
            return image.resize((width, height), resampling)
        # Both libraries cut off the fraction of the longer side.
        shorter = min(image.size)
        across, down = (int(self.shortest_edge * side / shorter) for side in image.size)
        left, top = self._margin(across - width), self._margin(down - height)
        if max(across, down) <= _LONGEST * self.shortest_edge:
            return image.resize((across, down), resampling).crop((left, top, left + width, top + height))
        x, y = image.width / across, image.height / down
        seen = (left * x, top * y, min((left + width) * x, image.width), min((top + height) * y, image.height))
        return image.resize((width, height), resampling, box=seen)

    def normalise(self, pixels: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Return RGB values [n, height, width, 3] as what the network computes with, [n, 3, height, width]."""
        std = np.array(self.std, np.float32)
        values = pixels * (np.float32(self.rescale) / std)
        values -= np.array(self.mean, np.float32) / std
        return np.ascontiguousarray(values.transpose(0, 3, 1, 2))

    def _margin(self, surplus: int) -> int:
        return round(surplus / 2) if self.crop_rounds else surplus // 2


def read_pixels(data: bytes, preprocessing: dict[str, Any]) -> NDArray[np.uint8]:
    """Return what the model sees of the image file *data*, as RGB values [height, width, 3].

    *preprocessing* holds the fields of a Preprocessing. Raises ImageRefused for what cannot be decoded.
    """
    return np.asarray(Preprocessing(**preprocessing).resize(open_rgb(data)))
