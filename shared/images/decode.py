"""Decode untrusted image files into upright sRGB.

Pillow's plugins are called directly and not through ``Image.open``, so that only the formats named here are tried on
untrusted bytes, and no plugin that another library registers.
"""

import io
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from itertools import chain
from pathlib import Path
from typing import cast

import pillow_heif
from PIL import AvifImagePlugin, Image, ImageFile
from PIL.AvifImagePlugin import AvifImageFile
from PIL.BmpImagePlugin import BmpImageFile
from PIL.ExifTags import IFD
from PIL.GifImagePlugin import GifImageFile
from PIL.Jpeg2KImagePlugin import Jpeg2KImageFile
from PIL.JpegImagePlugin import JpegImageFile
from PIL.PngImagePlugin import PngImageFile
from PIL.WebPImagePlugin import WebPImageFile

from shared.errors import ImageRefused, Reason
from shared.images import decode_memory, png, truncation
from shared.images.boxes import find_boxes
from shared.images.colour import ADOBE_RGB, Colour, of_photo, to_srgb
from shared.images.formats import SNIFF_BYTES, Format, sniff
from shared.images.tiff import TiffFile
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
_COLOUR_SPACE_TAG = 0xA001
_ADOBE_RGB = 2
_INTEROPERABILITY_INDEX_TAG = 1
_PROFILE_BYTES = 16 << 20


def _open_jpeg_xl(file: File) -> ImageFile.ImageFile:
    from shared.images.jpeg_xl import JpegXlFile  # loads NumPy, which takes a tenth of a second

    return JpegXlFile(file)


def _open_psd(file: File) -> ImageFile.ImageFile:
    from shared.images.psd import open_psd

    return open_psd(file)


class JpegWithoutResolution(JpegImageFile):
    """A JPEG file whose resolution is not read: Pillow takes it from EXIF, and fails if that is malformed."""

    def _read_dpi_from_exif(self) -> None:
        pass


_PLUGINS: dict[Format, Callable[[File], ImageFile.ImageFile]] = {
    Format.JPEG: JpegWithoutResolution,
    Format.PNG: PngImageFile,
    Format.GIF: GifImageFile,
    Format.WEBP: WebPImageFile,
    Format.HEIC: pillow_heif.HeifImageFile,
    Format.AVIF: AvifImageFile,
    Format.TIFF: TiffFile,
    Format.BMP: BmpImageFile,
    Format.JXL: _open_jpeg_xl,
    Format.JP2: Jpeg2KImageFile,
    Format.PSD: _open_psd,
}
# These decoders return the whole picture or nothing.
_ALL_OR_NOTHING = frozenset({Format.WEBP, Format.HEIC, Format.AVIF, Format.JXL})


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
    colour: Colour = None
    truncated: bool = False

    def upright(self, size: Size | None = None, *, convert_colours: bool = True) -> Image.Image:
        """Return the image upright, resized to *size* if given, in mode RGB and sRGB, on white where transparent.

        With ``convert_colours=False`` the stored values are not converted to sRGB. Raises ImageRefused.
        """
        colour = self.colour if convert_colours else None
        with _decoder_errors(f"cannot convert the {self.format.name} picture"):
            image = _to_rgb(self.image, size and _oriented(size, self.orientation), colour)
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

    A JPEG is reduced further if memory requires it. Raises ImageRefused, and OSError with an errno for errors of the
    system.
    """
    file.seek(0)
    kind = sniff(file.read(SNIFF_BYTES))
    if kind is Format.RAW:
        return _decode_raw(file, needed)
    if kind is Format.JXL:
        return _decode_jpeg_xl(file, needed)
    return _decode_as(kind, file, needed)


def _decode_jpeg_xl(file: File, needed: Callable[[Size], Size] | None) -> Decoded:
    """Decode the pixels, or the JPEG file that was packed without loss, which has a profile and metadata."""
    from shared.images.jpeg_xl import reconstructed_jpeg

    read_header(Format.JXL, file)  # refuses a huge one
    if jpeg := reconstructed_jpeg(file):
        return replace(_decode_as(Format.JPEG, io.BytesIO(jpeg), needed), format=Format.JXL)
    return _decode_as(Format.JXL, file, needed)


def check_pixels(file: File, limit: int) -> None:
    """Raise ImageRefused for an image of more than *limit* pixels; a raw file has a preview of its own size."""
    file.seek(0)
    kind = sniff(file.read(SNIFF_BYTES))
    if kind is Format.RAW:
        return
    try:
        read_header(kind, file, limit)
    except ImageRefused as refusal:
        if refusal.reason is not Reason.CORRUPT or not (padded := next(truncation.padded(kind, file), None)):
            raise
        read_header(kind, padded, limit)


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
    result = _decode_intact(kind, file, needed)
    if kind is Format.PNG and isinstance(result, ImageRefused):
        file = png.repaired(file)
        result = _decode_intact(kind, file, needed)
    if isinstance(result, Decoded):
        # Of a grid, libheif leaves out the tiles that are missing.
        return replace(result, truncated=kind is Format.HEIC and truncation.ends_early(kind, file))
    return _decode_part(kind, file, needed, result)


def _decode_intact(kind: Format, file: File, needed: Callable[[Size], Size] | None) -> Decoded | ImageRefused:
    """Return the picture, or the refusal if it is corrupt and a part of it may be shown."""
    try:
        return _load(kind, file, needed)
    except ImageRefused as refusal:
        if refusal.reason is not Reason.CORRUPT:
            raise
        return refusal


def _decode_part(kind: Format, file: File, needed: Callable[[Size], Size] | None, refusal: ImageRefused) -> Decoded:
    """Return what a full disk or a broken transfer left of a picture; raise ImageRefused if that is nothing."""
    candidates = truncation.padded(kind, file)
    ImageFile.LOAD_TRUNCATED_IMAGES = True  # for the whole process, which decodes one image at a time
    try:
        for candidate in candidates if kind in _ALL_OR_NOTHING else chain(candidates, [file]):
            part = _decode_intact(kind, candidate, needed)
            if isinstance(part, ImageRefused):
                refusal = part
            elif _shows_something(part.image):
                return replace(part, truncated=True)
            else:
                refusal = ImageRefused(Reason.CORRUPT, f"the file ends before any of the {kind.name} picture")
    finally:
        ImageFile.LOAD_TRUNCATED_IMAGES = False
    raise refusal


def read_header(kind: Format, file: File, max_pixels: int = 0) -> ImageFile.ImageFile:
    """Return the image in *file*, not decoded. Raises ImageRefused for one that is too large."""
    file.seek(0)
    with _decoder_errors(f"cannot read the {kind.name} header"):
        image = _PLUGINS[kind](file)
    width, height = image.size
    limit = max_pixels or MAX_PIXELS
    if width * height > limit:
        detail = f"it declares {width:,} x {height:,} pixels; the limit is {limit // 1_000_000:,} million"
        raise ImageRefused(Reason.TOO_LARGE, detail)
    decode_memory.check(kind, image)
    return image


def _load(kind: Format, file: File, needed: Callable[[Size], Size] | None) -> Decoded:
    image = read_header(kind, file)
    with _decoder_errors(f"cannot decode the {kind.name} data"):
        if kind is not Format.JPEG:
            # Before reading EXIF: in a PNG it may follow the pixels, and loading a TIFF applies and clears its
            # orientation.
            image.load()
        exif, orientation = _exif(image)
        if kind is Format.JXL:  # already applied by libjxl
            orientation = 1
        size = _oriented(image.size, orientation)
        if kind is Format.JPEG:
            reduction = decode_memory.jpeg_reduction(image)
            wanted = _oriented(needed(size), orientation) if needed else image.size
            if wanted != image.size or reduction > 1:
                image.draft(None, (min(wanted[0], image.width // reduction), min(wanted[1], image.height // reduction)))
            image.load()
        colour = _colour(kind, file, image, exif)
        pixels = png.with_transparent_colour(image, file) if isinstance(image, PngImageFile) else image
    return Decoded(kind, pixels, size, orientation, exif, colour)


def _colour(kind: Format, file: File, image: ImageFile.ImageFile, exif: Image.Exif) -> Colour:
    """Return the colour space of the image; an ICC profile goes first, except in PNG."""
    profile: bytes | None = image.info.get("icc_profile")
    if kind is Format.JXL:
        return cast(Colour, image.info["colour"])
    if kind is Format.PNG:
        return png.colour_of(file, profile)
    if kind is Format.JP2:
        return _jpeg_2000_profile(file)
    if profile:
        return profile
    if kind is Format.AVIF:
        return _avif_colour(file)
    if kind is Format.HEIC and (video := image.info.get("nclx_profile")):
        return of_photo(video["color_primaries"], video["transfer_characteristics"])
    return ADOBE_RGB if _says_adobe_rgb(exif) else None


def _avif_colour(file: File) -> Colour:
    for box in find_boxes(file, b"meta", b"iprp", b"ipco", b"colr"):
        data = box.read(file, 8)
        if data.startswith(b"nclx") and len(data) == 8:
            return of_photo(int.from_bytes(data[4:6]), int.from_bytes(data[6:8]))
    return None


def _jpeg_2000_profile(file: File) -> bytes | None:
    for box in find_boxes(file, b"jp2h", b"colr"):
        data = box.read(file, _PROFILE_BYTES)
        if data[:1] in (b"\2", b"\3"):  # a profile, and not a number
            return data[3:]
    return None


def _says_adobe_rgb(exif: Image.Exif) -> bool:
    """Return whether EXIF names Adobe RGB, as cameras do instead of embedding the profile (DCF 2.0)."""
    try:
        if exif.get_ifd(IFD.Exif).get(_COLOUR_SPACE_TAG) == _ADOBE_RGB:
            return True
        return str(exif.get_ifd(IFD.Interop).get(_INTEROPERABILITY_INDEX_TAG)).startswith("R03")
    except Exception:  # broken metadata does not prevent decoding
        return False


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


def _to_rgb(image: Image.Image, size: Size | None, colour: Colour) -> Image.Image:
    """Return *image* in mode RGB and sRGB, on white where transparent, and without metadata."""
    image = _in_plain_mode(image)
    if size and size != image.size:  # first, so that colours are converted only for the remaining pixels
        image = image.resize(size, Image.Resampling.LANCZOS, reducing_gap=2.0)
    alpha = image.getchannel("A") if image.mode in ("LA", "RGBA") else None
    if alpha:
        image = image.convert("L" if image.mode == "LA" else "RGB")
    image = to_srgb(image, colour)
    if alpha:
        flat = Image.new("RGB", image.size, "white")
        flat.paste(image, mask=alpha)
        image = flat
    image.info = {}
    return image


def _in_plain_mode(image: Image.Image) -> Image.Image:
    """Return *image* in mode L, LA, RGB, RGBA, CMYK or LAB."""
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
    return Image.fromarray(grey)
