"""Decode untrusted image files into upright sRGB.

Pillow's plugins are called directly and not through ``Image.open``, so that only the formats named here are tried on
untrusted bytes, and no plugin that another library registers.
"""

import io
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import pillow_heif
from PIL import AvifImagePlugin, Image, ImageCms, ImageFile
from PIL.AvifImagePlugin import AvifImageFile
from PIL.BmpImagePlugin import BmpImageFile
from PIL.GifImagePlugin import GifImageFile
from PIL.JpegImagePlugin import JpegImageFile
from PIL.PngImagePlugin import PngImageFile
from PIL.TiffImagePlugin import TiffImageFile
from PIL.WebPImagePlugin import WebPImageFile

from shared.errors import ImageRefused, Reason
from shared.images.formats import SNIFF_BYTES, Format, sniff
from shared.local_files import open_regular

# Checked against the header before decoding. Pillow stores most images at four bytes per pixel: 0.8 GB.
MAX_PIXELS = 200_000_000
# Pillow's own limit is lower, at first only a warning, and not checked everywhere: ours replaces it.
Image.MAX_IMAGE_PIXELS = None
# Images are decoded in parallel by processes, not by threads.
AvifImagePlugin.DEFAULT_MAX_THREADS = 1
pillow_heif.options.DECODE_THREADS = 1

Size = tuple[int, int]
File = io.BytesIO | io.BufferedReader
Source = bytes | Path | io.BufferedReader  # an open file is what a decoder worker gets

_ORIENTATION_TAG = 0x0112
_TRANSPOSES = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
_SRGB = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB"))

_PLUGINS: dict[Format, Callable[[File], ImageFile.ImageFile]] = {
    Format.JPEG: JpegImageFile,
    Format.PNG: PngImageFile,
    Format.GIF: GifImageFile,
    Format.WEBP: WebPImageFile,
    Format.HEIC: pillow_heif.HeifImageFile,
    Format.AVIF: AvifImageFile,
    Format.TIFF: TiffImageFile,
    Format.BMP: BmpImageFile,
}
# These decoders return the whole picture or nothing.
_ALL_OR_NOTHING = frozenset({Format.WEBP, Format.HEIC, Format.AVIF})


@dataclass(frozen=True)
class Decoded:
    """A decoded image as stored in the file, possibly reduced.

    ``size`` is the full size of the image when upright. ``orientation`` is EXIF's, 1 to 8. Metadata can be read from
    ``exif`` and ``image.info`` while the file is open and before ``upright`` is called.
    """

    format: Format
    image: Image.Image
    size: Size
    orientation: int
    exif: Image.Exif
    truncated: bool = False

    def upright(self, size: Size | None = None, *, convert_colours: bool = True) -> Image.Image:
        """Return the image upright, resized to *size* if given, in mode RGB and sRGB, on white where transparent.

        With ``convert_colours=False`` the stored values are not converted to sRGB.
        """
        image = self.image
        if not convert_colours:
            image.info.pop("icc_profile", None)
        image = _to_srgb(image, size and _oriented(size, self.orientation))
        method = _TRANSPOSES.get(self.orientation)
        return image if method is None else image.transpose(method)


def open_rgb(source: Source, *, at_least: Size | None = None) -> Image.Image:
    """Return the stored values of the image, upright and in mode RGB, on white where it is transparent.

    These are the pixels for models: their reference preprocessing ignores colour profiles. For an opaque 8-bit JPEG or
    PNG they equal ``ImageOps.exif_transpose(Image.open(file)).convert("RGB")``. Given *at_least* (upright width and
    height), the result may be reduced, not below that size on either side, if this makes decoding cheaper. Returns the
    first frame of an animation, the preview of a raw file, and the decodable part of a truncated file. Raises
    ImageRefused.
    """
    with opened(source) as file:
        return decode(file, needed=(lambda _: at_least) if at_least else None).upright(convert_colours=False)


@contextmanager
def opened(source: Source) -> Iterator[File]:
    """Open *source*; errors of the system while it is open become ImageRefused(UNREADABLE)."""
    try:
        # Ignore Pillow's warnings: the result has the flag `truncated`, and stderr is for progress.
        with (
            source if isinstance(source, io.BufferedReader) else _open(source) as file,
            warnings.catch_warnings(action="ignore"),
        ):
            yield file
    except OSError as exc:
        detail = f"cannot read the file: {exc.strerror or exc}"
        raise ImageRefused(Reason.UNREADABLE, detail, final=False) from exc


def _open(source: bytes | Path) -> File:
    return io.BytesIO(source) if isinstance(source, bytes) else open_regular(source)


def decode(file: File, *, needed: Callable[[Size], Size] | None = None) -> Decoded:
    """Decode the image in *file*. *needed* maps its upright size to the smallest size that suffices.

    Raises ImageRefused, and OSError with an errno for errors of the system.
    """
    file.seek(0)
    kind = sniff(file.read(SNIFF_BYTES))
    return _decode_raw(file, needed) if kind is Format.RAW else _decode_as(kind, file, needed)


def _decode_raw(file: File, needed: Callable[[Size], Size] | None) -> Decoded:
    """Decode the preview of a raw file. Its size becomes the size of the image."""
    from shared.images.raw import read_preview  # LibRaw takes half a second to load

    with _decoder_errors("cannot read the raw file"):
        preview = read_preview(file)
    decoded = decode(io.BytesIO(preview.data), needed=needed)
    if decoded.orientation == 1:  # few previews state their orientation
        size = _oriented(decoded.size, preview.orientation)
        decoded = replace(decoded, orientation=preview.orientation, size=size)
    return replace(decoded, format=Format.RAW, exif=_tiff_exif(file) or decoded.exif)


def _tiff_exif(file: File) -> Image.Exif | None:
    """Return the EXIF of a raw file that has the structure of a TIFF; the preview often has less."""
    exif = Image.Exif()
    try:
        file.seek(0)
        exif.load_from_fp(file)
        return exif if len(exif) else None
    except Exception:  # another structure or a broken one: the preview can be shown anyway
        return None


def _decode_as(kind: Format, file: File, needed: Callable[[Size], Size] | None) -> Decoded:
    image = _read_header(kind, file)
    try:
        return _load(kind, image, needed)
    except ImageRefused:
        if kind in _ALL_OR_NOTHING:
            raise
    # A photo truncated by a full disk or a broken transfer still shows something.
    ImageFile.LOAD_TRUNCATED_IMAGES = True  # for the whole process, which decodes one image at a time
    try:
        image = _read_header(kind, file)
        decoded = _load(kind, image, needed)
    finally:
        ImageFile.LOAD_TRUNCATED_IMAGES = False
    if not _shows_something(decoded.image):
        raise ImageRefused(Reason.CORRUPT, f"the file ends before any of the {kind.name} picture")
    return replace(decoded, truncated=True)


def _read_header(kind: Format, file: File) -> ImageFile.ImageFile:
    file.seek(0)
    with _decoder_errors(f"cannot read the {kind.name} header"):
        image = _PLUGINS[kind](file)
    width, height = image.size
    if width * height > MAX_PIXELS:
        detail = f"it declares {width:,} x {height:,} pixels; the limit is {MAX_PIXELS // 1_000_000:,} million"
        raise ImageRefused(Reason.TOO_LARGE, detail)
    return image


def _load(kind: Format, image: ImageFile.ImageFile, needed: Callable[[Size], Size] | None) -> Decoded:
    with _decoder_errors(f"cannot decode the {kind.name} data"):
        if kind is not Format.JPEG:
            # Before reading EXIF: in a PNG it may follow the pixels, and loading a TIFF applies and clears its
            # orientation.
            image.load()
        exif, orientation = _exif(image)
        size = _oriented(image.size, orientation)
        if kind is Format.JPEG:
            if needed:
                image.draft(None, _oriented(needed(size), orientation))
            image.load()
    return Decoded(kind, image, size, orientation, exif)


@contextmanager
def _decoder_errors(problem: str) -> Iterator[None]:
    """Turn exceptions of decoders into ImageRefused(CORRUPT), except errors of the system and lack of memory."""
    try:
        yield
    except (ImageRefused, MemoryError):
        raise
    except Exception as exc:  # decoders raise all kinds of errors for malformed files
        if isinstance(exc, OSError) and exc.errno is not None:
            raise
        text = exc.args[0].decode(errors="replace") if exc.args and isinstance(exc.args[0], bytes) else str(exc)
        if "memory" in text.lower():  # codecs with their own allocators
            raise MemoryError(text) from exc
        raise ImageRefused(Reason.CORRUPT, f"{problem}: {' '.join(text.split())[:200].rstrip('.')}") from exc


def _exif(image: Image.Image) -> tuple[Image.Exif, int]:
    try:
        exif = image.getexif()
        orientation = exif.get(_ORIENTATION_TAG)
        return exif, orientation if orientation in _TRANSPOSES else 1
    except Exception:  # broken metadata does not prevent decoding
        return Image.Exif(), 1


def _oriented(size: Size, orientation: int) -> Size:
    """Convert between stored and upright size."""
    return (size[1], size[0]) if orientation >= 5 else size


def _shows_something(image: Image.Image) -> bool:
    """Return whether at least a fiftieth of a truncated picture differs from the fill colour."""
    sample = image.resize((64, 64), Image.Resampling.NEAREST)
    data = (sample.convert("L") if sample.mode == "1" else sample).tobytes()
    length = len(data) // (64 * 64)
    differing = sum(data[start : start + length] != data[-length:] for start in range(0, len(data), length))
    return differing >= 0.02 * 64 * 64


def _to_srgb(image: Image.Image, size: Size | None) -> Image.Image:
    """Return *image* in mode RGB and sRGB, on white where transparent, and without metadata."""
    image = _in_plain_mode(image)
    if size and size != image.size:  # first, so that colours are converted only for the remaining pixels
        image = image.resize(size, Image.Resampling.LANCZOS, reducing_gap=2.0)
    alpha = image.getchannel("A") if image.mode in ("LA", "RGBA") else None
    if alpha:
        image = image.convert("L" if image.mode == "LA" else "RGB")
    colour = _without_profile(image) or (image if image.mode == "RGB" else image.convert("RGB"))
    if alpha:
        flat = Image.new("RGB", colour.size, "white")
        flat.paste(colour, mask=alpha)
        colour = flat
    colour.info = {}
    return colour


def _in_plain_mode(image: Image.Image) -> Image.Image:
    """Return *image* in mode L, LA, RGB, RGBA, CMYK or LAB, with its ``info``."""
    if image.mode.startswith(("I", "F")):
        return _with_eight_bits(image)
    if image.has_transparency_data:
        return image if image.mode in ("LA", "RGBA") else image.convert("RGBA")
    if image.mode == "1":
        return image.convert("L")
    return image if image.mode in ("L", "RGB", "CMYK", "LAB") else image.convert("RGB")


def _with_eight_bits(image: Image.Image) -> Image.Image:
    """Return an image of 16 or 32 bits per pixel in mode L; convert() would clip it to white."""
    import numpy as np  # takes a tenth of a second to load, and few images need it

    if image.mode.startswith("I;16"):
        grey = (np.asarray(image) >> 8).astype(np.uint8)
    else:
        # These have no fixed white: stretch the values.
        values = np.nan_to_num(np.asarray(image, dtype=np.float64))
        low, high = values.min(), values.max()
        grey = ((values - low) * (255 / (high - low) if high > low else 0)).astype(np.uint8)
    image_8bit = Image.fromarray(grey)
    image_8bit.info = {name: value for name, value in image.info.items() if name == "icc_profile"}
    return image_8bit


def _without_profile(image: Image.Image) -> Image.Image | None:
    """Return *image* converted from its colour profile to sRGB, or None without a usable or necessary profile."""
    try:
        if image.mode == "LAB":
            source = ImageCms.ImageCmsProfile(ImageCms.createProfile("LAB"))
        elif data := image.info.get("icc_profile"):
            source = ImageCms.ImageCmsProfile(io.BytesIO(data))
        else:
            return None
        if image.mode == "RGB" and "sRGB" in ImageCms.getProfileDescription(source):
            return None
        return ImageCms.profileToProfile(image, source, _SRGB, outputMode="RGB")
    except (ImageCms.PyCMSError, OSError, TypeError, ValueError):
        # A broken profile or one for other channels. (LAB cannot fail: its profile is ours.)
        return None
