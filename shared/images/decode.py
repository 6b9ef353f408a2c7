"""Opens untrusted image files, and turns whatever pixels lie inside into upright sRGB.

Pillow's plugins are used by their classes, not through ``Image.open``: then only the formats named here can ever be
tried on a stranger's bytes, and no plugin that some other library registers.
"""

import io
import threading
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

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

# Checked against the header, before anything is decoded. Pillow holds most images at four bytes a pixel: 0.8 GB.
MAX_PIXELS = 200_000_000
# Pillow's own cap is a warning first, lower, and only checked on some paths: ours stands in its place.
Image.MAX_IMAGE_PIXELS = None
# One image, one core: the worker processes are what runs in parallel.
AvifImagePlugin.DEFAULT_MAX_THREADS = 1

Size = tuple[int, int]
File = io.BytesIO | io.BufferedReader

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

# Whether Pillow decodes what there is of a cut file is a switch for the whole process.
_truncated_switch = threading.Lock()


@dataclass
class Decoded:
    """The pixels of an image as they lie in the file, maybe smaller, and how to show them.

    ``size`` is the image's full size as shown: upright, and before any shrinking. ``orientation`` is EXIF's, 1 to 8.
    Metadata can be read from ``exif`` and ``image.info`` as long as the file is open.
    """

    format: Format
    image: Image.Image
    size: Size
    orientation: int
    exif: Image.Exif
    truncated: bool

    def upright(self, image: Image.Image) -> Image.Image:
        """Return *image*, which has been made from this one's pixels, turned the way it is to be seen."""
        method = _TRANSPOSES.get(self.orientation)
        return image if method is None else image.transpose(method)

    def lying(self, shown: Size) -> Size:
        """Return the size that an image of size *shown* has before it is turned upright."""
        return turned(shown, self.orientation)


def open_rgb(source: bytes | Path, *, at_least: Size | None = None, colour_profile: bool = True) -> Image.Image:
    """Return the image upright, in sRGB, mode RGB, with what is transparent on white.

    With *at_least* (width, height, as shown) it may come smaller than it is, never below that size on either side,
    where that makes decoding cheaper. With ``colour_profile=False`` the values are taken as they are stored, as the
    reference processors of models do. The pixels of a JPEG or PNG of 8 bits without colour profile and transparency
    are those of ``ImageOps.exif_transpose(Image.open(file)).convert("RGB")``.
    Of an animation the first frame is taken, of a camera's raw file the embedded preview, of a file that ends early
    what there is. Raises ImageRefused.
    """
    with opened(source) as file:
        decoded = decode(file, needed=(lambda _: at_least) if at_least else None)
        if not colour_profile:
            decoded.image.info.pop("icc_profile", None)
        return decoded.upright(to_srgb(decoded.image))


@contextmanager
def opened(source: bytes | Path) -> Iterator[File]:
    """Open *source* for reading; what the system cannot read raises ImageRefused(UNREADABLE), now or later."""
    try:
        # What Pillow has to say of a file goes nowhere: the result says what matters, and stderr is for progress.
        with (
            io.BytesIO(source) if isinstance(source, bytes) else source.open("rb") as file,
            warnings.catch_warnings(action="ignore"),
        ):
            yield file
    except OSError as exc:
        detail = f"the file cannot be read: {exc.strerror or exc}"
        raise ImageRefused(Reason.UNREADABLE, detail, final=False) from exc


def decode(file: File, *, needed: Callable[[Size], Size] | None = None) -> Decoded:
    """Decode the image in *file*. *needed* gets its size as shown, and returns the least size that will do.

    Raises ImageRefused, and OSError with its number for what the system cannot read.
    """
    file.seek(0)
    kind = sniff(file.read(SNIFF_BYTES))
    if kind is Format.RAW:
        from shared.images.raw import decode_preview  # LibRaw takes half a second to load

        return decode_preview(file, needed)
    return _decode_as(kind, file, needed)


class _CutShort(ImageRefused):
    """The decoder began with the pixels, and gave up on them."""


# These decoders give the whole picture or nothing.
_ALL_OR_NOTHING = frozenset({Format.WEBP, Format.HEIC, Format.AVIF})


def _decode_as(kind: Format, file: File, needed: Callable[[Size], Size] | None) -> Decoded:
    try:
        return _load(kind, _read_header(kind, file), needed, truncated=False)
    except _CutShort:
        if kind in _ALL_OR_NOTHING:
            raise
    # Once more, for whatever can be had: a photo cut off by a full disk or a broken transfer still shows something.
    with _truncated_switch:
        ImageFile.LOAD_TRUNCATED_IMAGES = True
        try:
            decoded = _load(kind, _read_header(kind, file), needed, truncated=True)
        finally:
            ImageFile.LOAD_TRUNCATED_IMAGES = False
    if not _shows_something(decoded.image):
        raise ImageRefused(Reason.CORRUPT, f"the file ends before any of the {kind.name} picture can be seen")
    return decoded


def _plugin(kind: Format) -> Callable[[File], ImageFile.ImageFile]:
    match kind:
        case Format.HEIC:
            import pillow_heif

            pillow_heif.options.DECODE_THREADS = 1
            return pillow_heif.HeifImageFile
        case Format.JPEG:
            return JpegImageFile
        case Format.PNG:
            return PngImageFile
        case Format.GIF:
            return GifImageFile
        case Format.WEBP:
            return WebPImageFile
        case Format.AVIF:
            return AvifImageFile
        case Format.TIFF:
            return TiffImageFile
        case Format.BMP:
            return BmpImageFile
        case Format.RAW:
            raise AssertionError("raw files are decoded by shared.images.raw")


def _read_header(kind: Format, file: File) -> ImageFile.ImageFile:
    file.seek(0)
    try:
        image = _plugin(kind)(file)
    except MemoryError:
        raise
    except Exception as exc:
        if isinstance(exc, OSError) and exc.errno is not None:
            raise
        raise ImageRefused(Reason.CORRUPT, f"the {kind.name} header cannot be read: {one_line(exc)}") from exc
    width, height = image.size
    if width * height > MAX_PIXELS:
        detail = f"it declares {width:,} x {height:,} pixels, at most {MAX_PIXELS // 1_000_000:,} million are taken"
        raise ImageRefused(Reason.TOO_LARGE, detail)
    return image


def _load(
    kind: Format, image: ImageFile.ImageFile, needed: Callable[[Size], Size] | None, *, truncated: bool
) -> Decoded:
    try:
        if kind is not Format.JPEG:
            # First of all, since the metadata of a PNG may lie behind its pixels; and a TIFF is turned on loading,
            # and then says no more that it has to be.
            image.load()
        exif, orientation = _exif(image)
        size = turned(image.size, orientation)
        if kind is Format.JPEG:
            if needed:
                image.draft(None, turned(needed(size), orientation))
            image.load()
    except MemoryError:
        raise
    except Exception as exc:
        if isinstance(exc, OSError) and exc.errno is not None:
            raise
        if "memory" in str(exc).lower():  # codecs that do their own allocating
            raise MemoryError(str(exc)) from exc
        raise _CutShort(Reason.CORRUPT, f"the {kind.name} data cannot be decoded: {one_line(exc)}") from exc
    return Decoded(kind, image, size, orientation, exif, truncated)


def one_line(exc: Exception) -> str:
    """Return what a decoder has to say, for the end of a sentence."""
    said = exc.args[0].decode(errors="replace") if exc.args and isinstance(exc.args[0], bytes) else str(exc)
    return " ".join(said.split())[:200].rstrip(".")


def _exif(image: Image.Image) -> tuple[Image.Exif, int]:
    try:
        exif = image.getexif()
        orientation = exif.get(_ORIENTATION_TAG)
        return exif, orientation if orientation in _TRANSPOSES else 1
    except Exception:  # whatever is wrong with the metadata, the picture can be seen
        return Image.Exif(), 1


def turned(size: Size, orientation: int) -> Size:
    """Return the size as shown of what lies in the file with *size*, or the other way round."""
    return (size[1], size[0]) if orientation >= 5 else size


def _shows_something(image: Image.Image) -> bool:
    """Tell whether a picture that ends early has begun: a fiftieth of it differs from what the rest is filled with."""
    sample = image.resize((64, 64), Image.Resampling.NEAREST)
    data = (sample.convert("L") if sample.mode == "1" else sample).tobytes()
    length = len(data) // (64 * 64)
    differ = sum(data[start : start + length] != data[-length:] for start in range(0, len(data), length))
    return differ >= 0.02 * 64 * 64


def to_srgb(image: Image.Image, *, size: Size | None = None) -> Image.Image:
    """Return *image* in mode RGB and the sRGB colour space, with what is transparent on white and no metadata.

    With *size* it is resized first, so that colours are converted for no more pixels than are kept.
    """
    image = _in_plain_mode(image)
    if size and size != image.size:
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
    """Return *image* in one of the modes L, LA, RGB, RGBA, CMYK and LAB, with its ``info``."""
    if image.mode.startswith(("I", "F")):
        return _with_eight_bits(image)
    if image.has_transparency_data:
        return image if image.mode in ("LA", "RGBA") else image.convert("RGBA")
    if image.mode == "1":
        return image.convert("L")
    return image if image.mode in ("L", "RGB", "CMYK", "LAB") else image.convert("RGB")


def _with_eight_bits(image: Image.Image) -> Image.Image:
    """Return an image of 16 or 32 bits a pixel as shades of grey in mode L; convert() would clip it to white."""
    import numpy as np  # which takes a tenth of a second to load, and few images need

    if image.mode.startswith("I;16"):
        grey = (np.asarray(image) >> 8).astype(np.uint8)
    else:
        # These have no fixed white: stretch what is there.
        values = np.nan_to_num(np.asarray(image, dtype=np.float64))
        low, high = values.min(), values.max()
        grey = ((values - low) * (255 / (high - low) if high > low else 0)).astype(np.uint8)
    made = Image.fromarray(grey)
    made.info = {name: value for name, value in image.info.items() if name == "icc_profile"}
    return made


def _without_profile(image: Image.Image) -> Image.Image | None:
    """Return *image* converted from its colour profile to sRGB; None when it has none that can be used or is needed."""
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
        # A broken profile, or one for other channels than the image has. (LAB cannot fail: its profile is ours.)
        return None
