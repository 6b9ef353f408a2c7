"""Previews embedded in raw files of cameras."""

import io
from dataclasses import dataclass

import numpy as np
import rawpy
from PIL import Image

from shared.errors import ImageRefused, Reason

# LibRaw's flip -> EXIF orientation.
_ORIENTATIONS = {3: 3, 5: 8, 6: 6}


@dataclass(frozen=True)
class RawPreview:
    """The image file that a camera embeds in a raw file, and the EXIF orientation of the photo."""

    data: bytes
    orientation: int


def read_preview(file: io.BytesIO | io.BufferedReader) -> RawPreview:
    """Return the embedded preview of a raw file. Raises ImageRefused without one, and LibRawError."""
    file.seek(0)
    try:
        with rawpy.imread(file) as raw:
            orientation = _ORIENTATIONS.get(raw.sizes.flip, 1)
            preview = raw.extract_thumb()
    except (rawpy.LibRawNoThumbnailError, rawpy.LibRawUnsupportedThumbnailError) as exc:
        raise ImageRefused(Reason.UNSUPPORTED, "this raw file has no preview that can be shown") from exc
    data = preview.data if isinstance(preview.data, bytes) else _as_bmp(np.asarray(preview.data))
    return RawPreview(data, orientation)


def _as_bmp(pixels: np.ndarray) -> bytes:
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "BMP")
    return file.getvalue()
