"""JPEG XL, decoded by libjxl from the package imagecodecs.

Of the packages with libjxl, pillow-jxl-plugin is GPL, and pylibjxl has no build for Linux on ARM. imagecodecs returns
pixels only, so size and colours are read from the header here (ISO/IEC 18181-1, sections A to E).
"""

import io
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageFile

from shared.images.boxes import find_boxes
from shared.images.colour import Colour, by_code_points

File = io.BytesIO | io.BufferedReader

_HEADER_BYTES = 4096
_EXIF_BYTES = 4 << 20
_LINEAR = 8  # transfer function in ITU-T H.273
_P3, _P3_D65 = 11, 12  # primaries in ITU-T H.273; JPEG XL states the white apart
_MODES = {1: "L", 2: "LA", 3: "RGB", 4: "RGBA"}
# Width to height.
_RATIOS = {1: (1, 1), 2: (12, 10), 3: (4, 3), 4: (3, 2), 5: (16, 9), 6: (5, 4), 7: (2, 1)}


class JpegXlFile(ImageFile.ImageFile):
    """A JPEG XL image, its first frame if it is animated."""

    format = "JXL"
    format_description = "JPEG XL"

    def _open(self) -> None:
        header = read_header(self.fp)  # type: ignore[arg-type]
        self.info["colour"] = header.colour
        self._size, self._mode, self.samples = header.size, "RGB", header.samples
        for box in find_boxes(self.fp, b"Exif"):  # type: ignore[arg-type]
            self.info["exif"] = b"Exif\0\0" + box.read(self.fp, _EXIF_BYTES)[4:]  # type: ignore[arg-type]
        for box in find_boxes(self.fp, b"xml "):  # type: ignore[arg-type]
            self.info["xmp"] = box.read(self.fp, _EXIF_BYTES)  # type: ignore[arg-type]
        self.tile = []
        self._decoded = False

    def load(self) -> Any:
        """Decode the pixels."""
        if not self._decoded:
            import imagecodecs

            assert self.fp is not None
            self.fp.seek(0)
            pixels = imagecodecs.jpegxl_decode(self.fp.read(), index=0, numthreads=1)
            pixels = _eight_bits(pixels.reshape(self.height, self.width, -1)[..., :4])
            self._mode = _MODES[pixels.shape[-1]]
            self.im = Image.fromarray(pixels.squeeze(axis=-1) if self._mode == "L" else pixels).im
            self._decoded = True
        return super().load()


def _eight_bits(pixels: NDArray[Any]) -> NDArray[np.uint8]:
    if pixels.dtype == np.uint16:
        pixels = pixels >> 8
    elif pixels.dtype.kind == "f":
        # In place, because pictures are large.
        np.nan_to_num(pixels, copy=False).clip(0, 1, out=pixels)
        pixels *= 255
        np.rint(pixels, out=pixels)
    return np.asarray(pixels, np.uint8)


def reconstructed_jpeg(file: File) -> bytes | None:
    """Return the JPEG file that was packed without loss into *file*, with its profile and metadata, if there is one."""
    if next(find_boxes(file, b"jbrd"), None) is None:
        return None
    import imagecodecs

    file.seek(0)
    try:
        return bytes(imagecodecs.jpegxl_decode_jpeg(file.read(), numthreads=1))
    except (RuntimeError, ValueError):
        return None  # the pixels may be readable


@dataclass(frozen=True)
class Header:
    """Upright size, colours of the pixels that the decoder returns, and at most how many channels of how many bytes."""

    size: tuple[int, int]
    colour: Colour
    samples: tuple[int, int] = (3, 1)


def read_header(file: File) -> Header:
    """Return the header of the image in *file*. Raises ValueError for a malformed one."""
    file.seek(0)
    head = file.read(_HEADER_BYTES)
    if not head.startswith(b"\xff\x0a"):
        codestreams = [
            box.read(file, _HEADER_BYTES)[4 if box.kind == b"jxlp" else 0 :]
            for kind in (b"jxlc", b"jxlp")
            for box in find_boxes(file, kind)
        ]
        head = codestreams[0] if codestreams else b""
    if not head.startswith(b"\xff\x0a"):
        raise ValueError("no codestream")
    return _parse(_Bits(head[2:]))


class _Bits:
    """Bits of the header, the least significant of each byte first."""

    def __init__(self, data: bytes) -> None:
        self._bits, self._left = int.from_bytes(data, "little"), 8 * len(data)

    def take(self, count: int) -> int:
        self._left -= count
        if self._left < 0:
            raise ValueError("the header ends early")
        value = self._bits & ((1 << count) - 1)
        self._bits >>= count
        return value

    def flag(self) -> bool:
        return self.take(1) == 1

    def choice(self, *forms: tuple[int, int]) -> int:
        """Return a number in one of four forms: bits to read, and what to add."""
        count, offset = forms[self.take(2)]
        return self.take(count) + offset

    def enum(self) -> int:
        return self.choice((0, 0), (0, 1), (4, 2), (6, 18))


def _parse(bits: _Bits) -> Header:
    width, height = _size(bits)
    if bits.flag():  # all values are the default
        return Header((width, height), None)
    if bits.flag():
        if bits.take(3) >= 4:  # EXIF's orientation less one
            width, height = height, width
        _skip_extra_fields(bits)
    sample_bytes = _sample_bytes(bits)
    bits.flag()
    extra_channels = bits.choice((0, 0), (0, 1), (4, 2), (12, 1))
    for _ in range(extra_channels):
        _skip_extra_channel(bits)
    return Header((width, height), _colour(bits), (3 + extra_channels, sample_bytes))


def _size(bits: _Bits) -> tuple[int, int]:
    small = bits.flag()

    def side() -> int:
        return 8 * (bits.take(5) + 1) if small else bits.choice((9, 1), (13, 1), (18, 1), (30, 1))

    height = side()
    ratio = _RATIOS.get(bits.take(3))
    return (height * ratio[0] // ratio[1] if ratio else side()), height


def _skip_extra_fields(bits: _Bits) -> None:
    if bits.flag():  # intrinsic size
        _size(bits)
    if bits.flag():  # preview
        small = bits.flag()
        forms = ((0, 16), (0, 32), (5, 1), (9, 33)) if small else ((6, 1), (8, 65), (10, 321), (12, 1345))
        bits.choice(*forms)
        if not bits.take(3):
            bits.choice(*forms)
    if bits.flag():  # animation
        bits.choice((0, 100), (0, 1000), (10, 1), (30, 1))
        bits.choice((0, 1), (0, 1001), (8, 1), (10, 1))
        bits.choice((0, 0), (3, 0), (16, 0), (32, 0))
        bits.flag()


def _sample_bytes(bits: _Bits) -> int:
    """Return the bytes of a decoded sample."""
    if bits.flag():
        bits.choice((0, 32), (0, 16), (0, 24), (6, 1))
        bits.take(4)
        return 4  # floating point
    return 1 if bits.choice((0, 8), (0, 10), (0, 12), (6, 1)) <= 8 else 2


def _skip_extra_channel(bits: _Bits) -> None:
    if bits.flag():  # alpha with default values
        return
    kind = bits.enum()
    _sample_bytes(bits)
    bits.choice((0, 0), (0, 3), (0, 4), (3, 1))
    bits.take(8 * bits.choice((0, 0), (4, 0), (5, 16), (10, 48)))
    match kind:
        case 0:  # alpha
            bits.flag()
        case 2:  # spot colour
            bits.take(64)
        case 5:  # colour filter array
            bits.choice((0, 1), (2, 0), (4, 3), (8, 19))


def _colour(bits: _Bits) -> Colour:
    in_xyb = bits.flag()
    if bits.flag():
        return None
    if bits.flag():
        # libjxl converts XYB to linear sRGB, since it cannot apply the profile. Without XYB the profile would count,
        # but imagecodecs does not return it.
        return by_code_points(1, _LINEAR) if in_xyb else None
    space, primaries = bits.enum(), 1
    white = bits.enum()
    if white == 2:
        _skip_points(bits, 1)
    if space == 0:  # RGB
        primaries = bits.enum()
        if primaries == 2:
            _skip_points(bits, 3)
    if bits.flag():
        bits.take(24)  # a gamma
        return None
    return by_code_points(_P3_D65 if primaries == _P3 and white == 1 else primaries, bits.enum())


def _skip_points(bits: _Bits, count: int) -> None:
    for _ in range(2 * count):
        bits.choice((19, 0), (19, 524288), (20, 1048576), (21, 2097152))
