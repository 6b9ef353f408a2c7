"""Image preprocessing of open_clip and transformers. Runs in a decoder worker, so it imports no model."""

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from shared.images import open_rgb

Resampling = Literal["bicubic", "bilinear"]

_FILTERS = {"bicubic": Image.Resampling.BICUBIC, "bilinear": Image.Resampling.BILINEAR}

# Only the centre of images with a larger aspect ratio is resized: a single row of pixels would become gigabytes
# otherwise. Its values differ from the reference in the last digit.
_MAX_ASPECT = 50


@dataclass(frozen=True)
class Preprocessing:
    """Preprocessing of an image to an input of *size* (height, width).

    With ``shortest_edge`` the shorter side is scaled to that length and the centre cropped, otherwise the whole image
    is squeezed into *size*. A margin of half a pixel is rounded to even with ``crop_rounds`` (torchvision and thus
    open_clip), otherwise truncated (transformers).
    """

    size: tuple[int, int]
    shortest_edge: int | None
    crop_rounds: bool
    resampling: Resampling
    mean: tuple[float, float, float]
    std: tuple[float, float, float]
    rescale: float = 1 / 255

    def resize(self, image: Image.Image) -> Image.Image:
        """Return the part of *image* that the model sees, in its input size."""
        height, width = self.size
        resampling = _FILTERS[self.resampling]
        if self.shortest_edge is None:
            return image.resize((width, height), resampling)
        # Both libraries truncate the length of the longer side.
        shorter = min(image.size)
        across, down = (int(self.shortest_edge * side / shorter) for side in image.size)
        left, top = self._margin(across - width), self._margin(down - height)
        if max(across, down) <= _MAX_ASPECT * self.shortest_edge:
            return image.resize((across, down), resampling).crop((left, top, left + width, top + height))
        x, y = image.width / across, image.height / down
        seen = (left * x, top * y, min((left + width) * x, image.width), min((top + height) * y, image.height))
        return image.resize((width, height), resampling, box=seen)

    def normalise(self, pixels: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Convert RGB values [n, height, width, 3] to the input of the network [n, 3, height, width]."""
        std = np.array(self.std, np.float32)
        values = pixels * (np.float32(self.rescale) / std)
        values -= np.array(self.mean, np.float32) / std
        return np.ascontiguousarray(values.transpose(0, 3, 1, 2))

    def _margin(self, surplus: int) -> int:
        return round(surplus / 2) if self.crop_rounds else surplus // 2


def read_pixels(data: bytes, preprocessing: dict[str, Any]) -> NDArray[np.uint8]:
    """Return the part of the image file *data* that the model sees, as RGB values [height, width, 3].

    *preprocessing* holds the fields of a Preprocessing. Raises ImageRefused for a file that cannot be decoded.
    """
    return np.asarray(Preprocessing(**preprocessing).resize(open_rgb(data)))
