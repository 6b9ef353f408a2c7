"""The preview that a camera stores in its raw file."""

import io
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import rawpy
from PIL import Image

from shared.errors import ImageRefused, Reason
from shared.images.decode import Decoded, File, Size, decode, one_line, turned
from shared.images.formats import Format

# How LibRaw names a turn -> how EXIF does.
_ORIENTATIONS = {3: 3, 5: 8, 6: 6}


def decode_preview(file: File, needed: Callable[[Size], Size] | None) -> Decoded:
    """Return the embedded preview of the raw file; its size is the preview's, that of what can be shown.

    Raises ImageRefused.
    """
    file.seek(0)
    try:
        with rawpy.imread(file) as raw:
            orientation = _ORIENTATIONS.get(raw.sizes.flip, 1)
            preview = raw.extract_thumb()
    except (rawpy.LibRawNoThumbnailError, rawpy.LibRawUnsupportedThumbnailError) as exc:
        detail = "this is a camera's raw file without a preview that can be shown"
        raise ImageRefused(Reason.UNSUPPORTED, detail) from exc
    except rawpy.LibRawError as exc:
        raise ImageRefused(Reason.CORRUPT, f"the camera's raw file cannot be read: {one_line(exc)}") from exc
    if isinstance(preview.data, bytes):
        decoded = decode(io.BytesIO(preview.data), needed=needed)
    else:
        image = Image.fromarray(np.asarray(preview.data))
        decoded = Decoded(Format.RAW, image, image.size, 1, Image.Exif(), truncated=False)
    if decoded.orientation == 1:  # few previews say themselves how they are to be turned
        decoded = replace(decoded, orientation=orientation, size=turned(decoded.size, orientation))
    return replace(decoded, format=Format.RAW, exif=_exif(file) or decoded.exif)


def _exif(file: File) -> Image.Exif | None:
    """Return what a raw file that is built like a TIFF says of the picture; the preview often knows less."""
    exif = Image.Exif()
    try:
        file.seek(0)
        exif.load_from_fp(file)
        return exif if len(exif) else None
    except Exception:  # another structure, or a broken one: the picture can be seen all the same
        return None
