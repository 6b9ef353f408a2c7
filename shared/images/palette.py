"""The colours of an image, from its thumbnail."""

import io
from collections import Counter
from collections.abc import Sequence
from typing import cast

from PIL import Image

from shared import colours
from shared.colours import Rgb

_SIZE = (32, 32)
_PALETTE = 8


def colour_codes(picture: Image.Image) -> list[int]:
    """Return the codes of the colours that cover much of a picture in mode RGB, in ascending order."""
    small = picture.resize(_SIZE, Image.Resampling.BOX, reducing_gap=2.0)
    pixels = small.width * small.height
    named = Counter[str]()
    # Five bits of each channel tell the names apart.
    for count, rgb in _counted(small.point([value & 0xF8 | 4 for value in range(256)] * 3)):
        if name := colours.name(rgb):
            named[name] += count
    codes = {colours.name_code(name) for name, count in named.items() if count >= colours.min_share(name) * pixels}
    codes |= {
        colours.name_code(colours.MOSTLY + name)
        for name, count in named.items()
        if count > colours.MOSTLY_SHARE * pixels
    }
    palette = small.quantize(_PALETTE).convert("RGB")
    codes |= {colours.cell(rgb) for count, rgb in _counted(palette) if count >= colours.MIN_PALETTE_SHARE * pixels}
    return sorted(codes)


def _counted(picture: Image.Image) -> list[tuple[int, Rgb]]:
    """Return the colours of a picture in mode RGB with their numbers of pixels."""
    return cast(list[tuple[int, Rgb]], picture.getcolors(picture.width * picture.height))


def colour_codes_of_files(files: Sequence[bytes]) -> list[list[int]]:
    """Return the colour codes of small WebP files, none for a file that is not one."""
    return [_codes_of_file(file) for file in files]


def _codes_of_file(file: bytes) -> list[int]:
    try:
        return colour_codes(Image.open(io.BytesIO(file), formats=["WEBP"]).convert("RGB"))
    except OSError:
        return []
