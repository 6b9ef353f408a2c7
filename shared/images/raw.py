"""The preview that a camera stores in its raw file."""

import io
from collections.abc import Callable
from dataclasses import replace
from typing import BinaryIO

import rawpy
from PIL import Image

from shared.errors import ImageRefused, Reason
from shared.images.formats import Format
from shared.images.pixels import Decoded, Size, decode

# How LibRaw names a turn -> how EXIF does.
_FLIPS = {3: 3, 5: 8, 6: 6}


def decode_preview(file: BinaryIO, needed: Callable[[Size], Size] | None) -> Decoded:
    """Return the embedded preview of the raw file; its size is the preview's, that of what can be shown.

    Raises ImageRefused.
    """
    file.seek(0)
    try:
        with rawpy.imread(file) as raw:
            orientation = _FLIPS.get(raw.sizes.flip, 1)
            thumbnail = raw.extract_thumb()
    except (rawpy.LibRawNoThumbnailError, rawpy.LibRawUnsupportedThumbnailError) as exc:
        detail = "this is a camera's raw file without a preview that can be shown"
        raise ImageRefused(Reason.UNSUPPORTED, detail) from exc
    except rawpy.LibRawError as exc:
        raise ImageRefused(Reason.CORRUPT, f"the camera's raw file cannot be read: {exc}") from exc
    if thumbnail.format is rawpy.ThumbFormat.BITMAP:
        image = Image.fromarray(thumbnail.data)
        size = image.size if orientation < 5 else (image.size[1], image.size[0])
        return Decoded(Format.RAW, image, size, orientation, truncated=False)
    decoded = decode(io.BytesIO(thumbnail.data), needed=needed)
    if decoded.orientation == 1 and orientation != 1:
        size = decoded.size if orientation < 5 else (decoded.size[1], decoded.size[0])
        decoded = replace(decoded, orientation=orientation, size=size)
    return replace(decoded, format=Format.RAW)
