"""Colours by name and in CIELAB, and the codes that index them.

An image has a code for each named colour that covers much of it, for the one that covers most of it, and for the cell
of CIELAB of each colour in its palette. A filter selects the images with any of the codes of its value.
"""

import itertools
import math
import re
from collections.abc import Iterable
from functools import lru_cache

Rgb = tuple[int, int, int]  # sRGB, 0 to 255
Lab = tuple[float, float, float]  # CIELAB under D65

# The basic colour terms of English (Berlin and Kay, 1969) and turquoise. The position is the code.
COLOURS = (
    *("black", "white", "grey", "red", "orange", "yellow", "green", "turquoise", "blue", "purple", "pink", "brown"),
)
MOSTLY = "mostly-"
# Parts of an image that a colour must cover. Neutral colours and brown are in the background of most photos.
MIN_SHARE, MIN_SHARE_OF_BACKGROUND, MOSTLY_SHARE, MIN_PALETTE_SHARE = 0.10, 0.25, 0.50, 0.04
_BACKGROUND = frozenset({"black", "white", "grey", "brown"})

_FIRST_CELL = 100
_CELL = 10  # side of a cell of CIELAB
_A_CELLS, _B_CELLS = 21, 22  # a from -100 to 110, b from -110 to 110
# CIE76: colours that differ by 20 belong to one region of a photo; 2 is a just noticeable difference.
_TOLERANCE = 20

# Upper limits of the hue in degrees, for colours neither dark nor pale.
_HUES = (
    *((15, "pink"), (45, "red"), (80, "orange"), (112, "yellow"), (175, "green"), (220, "turquoise")),
    *((308, "blue"), (345, "purple"), (360, "pink")),
)


def lab(rgb: Rgb) -> Lab:
    """Return a colour of sRGB (IEC 61966-2-1) in CIELAB (CIE 15)."""
    r, g, b = (v / 12.92 if v <= 0.04045 else ((v + 0.055) / 1.055) ** 2.4 for v in (c / 255 for c in rgb))
    x = (0.4124 * r + 0.3576 * g + 0.1805 * b) / 0.9505
    y = 0.2126 * r + 0.7152 * g + 0.0722 * b
    z = (0.0193 * r + 0.1192 * g + 0.9505 * b) / 1.0890
    fx, fy, fz = (t ** (1 / 3) if t > 216 / 24389 else (24389 / 27 * t + 16) / 116 for t in (x, y, z))
    return 116 * fy - 16, 500 * (fx - fy), 200 * (fy - fz)


@lru_cache(maxsize=1 << 15)
def name(rgb: Rgb) -> str | None:
    """Return the name of a colour, or None for those between the names, such as beige."""
    lightness, a, b = lab(rgb)
    chroma, hue = math.hypot(a, b), math.degrees(math.atan2(b, a)) % 360
    if lightness < 12 or (lightness < 22 and chroma < 15):
        return "black"
    if chroma < 12:
        return "white" if lightness > 88 else "grey"
    named = next(colour for limit, colour in _HUES if hue <= limit)
    match named:
        case "red" if lightness > 62:
            return "pink"
        case "red" if chroma < 40:
            return "brown" if hue > 25 and lightness < 50 else None
        case "orange" if lightness < 60 and chroma < 75:
            return "brown"
        case "orange" if chroma < 45:
            return None
        case "yellow" if lightness < 60:
            return "brown" if hue < 95 else "green"
        case "yellow" if chroma < 30:
            return None
        case "purple" if lightness > 72 and hue > 320:
            return "pink"
        case "pink" if lightness < 40:
            return "purple"
    return named


@lru_cache(maxsize=1 << 15)
def cell(rgb: Rgb) -> int:
    """Return the code of the cell of CIELAB that contains a colour."""
    lightness, a, b = lab(rgb)
    return _cell_code(int(lightness // _CELL), int((a + 100) // _CELL), int((b + 110) // _CELL))


def _cell_code(lightness: int, a: int, b: int) -> int:
    return _FIRST_CELL + (lightness * _A_CELLS + a) * _B_CELLS + b


def name_code(colour: str) -> int:
    """Return the code of a named colour, with or without ``mostly-`` before it."""
    return COLOURS.index(colour.removeprefix(MOSTLY)) + len(COLOURS) * colour.startswith(MOSTLY)


def names(codes: Iterable[int]) -> list[str]:
    """Return the names of an image's colours by its codes, without ``mostly-`` ones."""
    return [COLOURS[code] for code in codes if code < len(COLOURS)]


@lru_cache(maxsize=1024)
def codes(value: str) -> list[int]:
    """Return the codes that a filter looks for: a name, ``mostly-`` and a name, or ``#`` and six hexadecimal digits."""
    if not value.startswith("#"):
        return [name_code(value)]
    lightness, a, b = lab((int(value[1:3], 16), int(value[3:5], 16), int(value[5:], 16)))
    cells = itertools.product(range(11), range(_A_CELLS), range(_B_CELLS))
    return [
        _cell_code(*each)
        for each in cells
        if math.dist((lightness, a + 100, b + 110), [(n + 0.5) * _CELL for n in each]) <= _TOLERANCE
    ]


def parse(value: str) -> str:
    """Return the value of a filter in its usual form. Raises ValueError."""
    value = value.strip().lower()
    if value.removeprefix(MOSTLY) in COLOURS:
        return value
    if re.fullmatch("#?[0-9a-f]{6}", value):
        return "#" + value.removeprefix("#")
    raise ValueError(f"{value[:40]!r} is no colour")


def min_share(colour: str) -> float:
    """Return the part of an image that a named colour must cover."""
    return MIN_SHARE_OF_BACKGROUND if colour in _BACKGROUND else MIN_SHARE
