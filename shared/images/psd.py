"""Photoshop documents: the flattened picture. Pillow reads 8 bits per channel, this module 16."""

import io
import struct
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageFile
from PIL.PsdImagePlugin import PsdImageFile

from shared.errors import ImageRefused, Reason

File = io.BytesIO | io.BufferedReader

_MODES = {1: ("L", 1), 3: ("RGB", 3), 4: ("CMYK", 4), 8: ("L", 1)}
_PROFILE, _EXIF, _XMP = 1039, 1058, 1060  # image resources
_RAW, _PACKED = 0, 1


def open_psd(file: File) -> ImageFile.ImageFile:
    """Return the flattened picture of a Photoshop document. Raises ImageRefused(UNSUPPORTED) for rare kinds."""
    file.seek(22)
    depth, mode = struct.unpack(">HH", file.read(4))
    if depth in (1, 8):
        file.seek(0)
        return PsdImageFile(file)
    if depth != 16 or mode not in _MODES:
        detail = f"Photoshop document with colour mode {mode} and {depth} bits per channel is not supported"
        raise ImageRefused(Reason.UNSUPPORTED, detail)
    file.seek(0)
    return DeepPsdFile(file)


class DeepPsdFile(ImageFile.ImageFile):
    """The flattened picture of a document with 16 bits per channel."""

    format = "PSD"
    format_description = "Adobe Photoshop"

    def _open(self) -> None:
        assert self.fp is not None
        self._channels, height, width, mode = struct.unpack(">12xHII2xH", self.fp.read(26))
        self._size = width, height
        self._mode, self._colours = _MODES[mode]
        self.samples = self._colours, 2  # channels, and bytes of each
        self._skip_section()  # a palette
        end = self._section_length() + self.fp.tell()
        while self.fp.tell() + 12 <= end:
            self._read_resource()
        self.fp.seek(end)
        self._skip_section()  # layers
        self.tile = []
        self._start: int | None = self.fp.tell()

    def load(self) -> Any:
        """Decode the pixels."""
        if self._start is not None:
            pixels = (self._samples() >> 8).astype(np.uint8)
            if self._mode == "CMYK":
                pixels = 255 - pixels
            self.im = Image.frombytes(self._mode, self._size, pixels.tobytes()).im
            self._start = None
        return super().load()

    def _samples(self) -> NDArray[Any]:
        """Return the channels of colours as [height, width, channels]."""
        assert self.fp is not None
        self.fp.seek(self._start or 0)
        compression = int.from_bytes(self.fp.read(2))
        count = self._colours * self.height
        if compression == _PACKED:
            lengths = struct.unpack(f">{self._channels * self.height}H", self.fp.read(2 * self._channels * self.height))
            data = _unpacked([self.fp.read(length) for length in lengths[:count]])
        elif compression == _RAW:
            data = self.fp.read(2 * self.width * count)
        else:
            raise ValueError(f"unknown compression {compression}")
        planes = np.frombuffer(data, ">u2")
        return np.moveaxis(planes.reshape(self._colours, self.height, self.width), 0, -1)

    def _read_resource(self) -> None:
        assert self.fp is not None
        _, number, name_length = struct.unpack(">4sHB", self.fp.read(7))
        self.fp.seek(name_length | 1, io.SEEK_CUR)  # name and length together are even
        length = self._section_length()
        data = self.fp.read(length + length % 2)[:length]
        if number == _PROFILE:
            self.info["icc_profile"] = data
        elif number == _EXIF:
            self.info["exif"] = b"Exif\0\0" + data
        elif number == _XMP:
            self.info["xmp"] = data

    def _skip_section(self) -> None:
        length = self._section_length()
        self.fp.seek(length, io.SEEK_CUR)  # type: ignore[union-attr]

    def _section_length(self) -> int:
        return int.from_bytes(self.fp.read(4))  # type: ignore[union-attr]


def _unpacked(rows: list[bytes]) -> bytes:
    import imagecodecs

    return b"".join(bytes(imagecodecs.packbits_decode(row)) for row in rows)
