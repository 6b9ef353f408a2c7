"""PNG files as browsers read them: damaged chunks, colours and transparent colours.

Pillow refuses a picture for a damaged chunk that says nothing about its pixels.
"""

import io
import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from PIL import Image
from PIL.PngImagePlugin import PngImageFile

from shared.images.colour import Colour, by_code_points, by_gamma

if TYPE_CHECKING:
    from numpy.typing import NDArray

File = io.BytesIO | io.BufferedReader

_SIGNATURE = b"\x89PNG\r\n\x1a\n"
_GREY, _RGB = 0, 2  # colour types
# Bytes of a transparent colour, by colour type.
_TRANSPARENT_BYTES = {_GREY: 2, _RGB: 6}
_LEAST_PROFILE = 12  # bytes: a name and an empty compressed profile


@dataclass(frozen=True)
class _Chunk:
    kind: bytes
    data: bytes
    intact: bool

    def packed(self) -> bytes:
        return struct.pack(">I4s", len(self.data), self.kind) + self.data + self._checksum

    @property
    def _checksum(self) -> bytes:
        return struct.pack(">I", zlib.crc32(self.kind + self.data))


def repaired(file: File) -> io.BytesIO:
    """Return the PNG file with its pixels, palette, intact colours and metadata only, and with right checksums."""
    out = io.BytesIO(_SIGNATURE)
    out.seek(0, io.SEEK_END)
    colour_type = 0
    for chunk in _chunks(file):
        if chunk.kind == b"IHDR":
            colour_type = int.from_bytes(chunk.data[9:10])
        if _is_usable(chunk, colour_type):
            out.write(chunk.packed())
    out.write(_Chunk(b"IEND", b"", intact=True).packed())
    return out


def _is_usable(chunk: _Chunk, colour_type: int) -> bool:
    match chunk.kind:
        case b"IHDR" | b"PLTE" | b"IDAT" | b"eXIf" | b"tEXt":
            return True
        case b"tRNS":
            return chunk.intact and len(chunk.data) >= _TRANSPARENT_BYTES.get(colour_type, 1)
        case b"iTXt":
            return chunk.data.partition(b"\0")[2][:1] == b"\0"  # not compressed: Pillow refuses huge texts
        case kind:
            return kind == b"iCCP" and chunk.intact and len(chunk.data) >= _LEAST_PROFILE


def colour_of(file: File, profile: bytes | None) -> Colour:
    """Return the colour space: that of cICP, else the ICC *profile*, else sRGB or that of gAMA and cHRM."""
    found = _before_pixels(file)
    if len(code_points := found.get(b"cICP", b"")) == 4 and (space := by_code_points(code_points[0], code_points[1])):
        return space
    if b"iCCP" in found and profile and profile[36:40] == b"acsp":  # it has the signature of a profile
        return profile
    if b"sRGB" in found or len(found.get(b"gAMA", b"")) != 4:
        return None
    gamma = int.from_bytes(found[b"gAMA"]) / 100_000
    exponent = 1 / gamma if gamma else 0
    if len(found.get(b"cHRM", b"")) != 32:
        return by_gamma(exponent)
    white, *rgb = ((x / 100_000, y / 100_000) for x, y in struct.iter_unpack(">II", found[b"cHRM"]))
    return by_gamma(exponent, (rgb[0], rgb[1], rgb[2], white))


def _before_pixels(file: File) -> dict[bytes, bytes]:
    """Return the intact chunks before the pixels, where colours must stand."""
    found: dict[bytes, bytes] = {}
    for chunk in _chunks(file, until=b"IDAT"):
        if chunk.intact:
            found.setdefault(chunk.kind, chunk.data)
    return found


def with_transparent_colour(image: PngImageFile, file: File) -> Image.Image:
    """Return the loaded *image* with an alpha channel for its transparent colour if Pillow would get that wrong.

    Pillow compares the stored value with pixels that it has scaled to 8 bits, and accepts a misplaced one.
    """
    if b"tRNS" not in _before_pixels(file):
        image.info.pop("transparency", None)
    file.seek(24)
    depth, colour_type = file.read(2)
    colour = image.info.get("transparency")
    if colour_type == _GREY and depth in (2, 4) and isinstance(colour, int):
        image.info["transparency"] = (colour & (2**depth - 1)) * 255 // (2**depth - 1)
    elif depth == 16 and colour is not None and colour_type in (_GREY, _RGB):
        return _with_alpha(image, file, colour)
    return image


def _with_alpha(image: PngImageFile, file: File, colour: Any) -> Image.Image:
    """Return an image of 16 bits per channel with 8, and with alpha where it does not equal *colour*."""
    import numpy as np  # takes a tenth of a second to load, and few images need it

    values: NDArray[Any] = np.asarray(image)
    if image.mode == "RGB":
        values = values.astype(np.uint16) << 8 | np.asarray(_low_bytes(file))
    differs = (values != colour).reshape(image.height, image.width, -1).any(axis=-1)
    channels = Image.fromarray((values >> 8).astype(np.uint8)).split()
    alpha = Image.fromarray(differs.astype(np.uint8) * 255)
    transparent = Image.merge("RGBA" if len(channels) == 3 else "LA", (*channels, alpha))
    transparent.info = {name: value for name, value in image.info.items() if name != "transparency"}
    return transparent


def _low_bytes(file: File) -> Image.Image:
    """Return the less significant bytes of an image of 16 bits per channel; Pillow keeps the others."""
    file.seek(0)
    image = PngImageFile(file)
    image.tile = [tile._replace(args="RGB;16L") for tile in image.tile]
    image.load()
    return image


def _chunks(file: File, *, until: bytes = b"IEND") -> Iterator[_Chunk]:
    """Yield the chunks before the first *until*, or before the place where the structure of the file breaks."""
    file.seek(len(_SIGNATURE))
    while len(header := file.read(8)) == 8:
        length, kind = struct.unpack(">I4s", header)
        if kind == until or not kind.isalpha():
            return
        data, checksum = file.read(length), file.read(4)
        yield _Chunk(kind, data, checksum == struct.pack(">I", zlib.crc32(kind + data)))
