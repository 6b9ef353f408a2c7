"""Properties, thumbnail, preview and placeholder of an image.

Pillow was compared with libvips (one core each, as in a worker; medians of seven): for a photo of 12 megapixels,
thumbnail and preview take 0.23 s with Pillow and 0.26 s with libvips, since both decode JPEG at half size in
libjpeg-turbo and spend more than a third of the time in libwebp. The advantage of libvips is threads, but the workers
already use every core. Its binary package reads no HEIC, and it would be a second decoder to trust.
"""

import base64
import hashlib
import io
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from PIL import Image

from shared.images.decode import Decoded, Size, Source, check_pixels, decode, opened
from shared.images.formats import Format
from shared.images.metadata import Metadata, read_metadata
from shared.images.palette import colour_codes

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

# Twice the width of a gallery column, for dense screens, and tall enough for a phone's screenshot.
_THUMBNAIL_BOX = (512, 1024)
# The gallery crops wider pictures to this ratio of width to height.
_WIDEST_TILE = 2.5
_PREVIEW_BOX = (1600, 1600)
_PLACEHOLDER_BOX = (16, 16)
_COLOUR_BOX = (64, 64)
_GLANCE_BOX = (192, 192)
# A picture to search for needs no more, and strangers may send it.
MAX_QUERY_PIXELS = 50_000_000
# Previews use libwebp's second fastest method: the next takes 60 ms longer and saves a tenth of the bytes. Thumbnails,
# of which a first screen shows many, use the next: it takes 1 ms longer and with the lower quality saves a quarter.
_PREVIEW_WEBP = {"quality": 80, "method": 1}
_THUMBNAIL_WEBP = {"quality": 75, "method": 2}


@dataclass(frozen=True)
class ModelInput:
    """The pixels of an image as one model sees them: RGB values, row by row."""

    width: int
    height: int
    rgb: bytes

    @property
    def array(self) -> "NDArray[np.uint8]":
        """The pixels as an array [height, width, 3]."""
        import numpy as np  # takes a tenth of a second to load, and decoders do not need it

        return np.frombuffer(self.rgb, np.uint8).reshape(self.height, self.width, 3)


@dataclass(frozen=True)
class Examined:
    """Properties of an image file and the smaller pictures made from it.

    ``size`` is in bytes; ``width`` and ``height`` are upright. ``placeholder`` is the picture at 16 pixels as a data:
    URL of about 250 characters, which browsers enlarge and blur. ``truncated`` means that the file ends early.
    ``colours`` are codes of shared.colours. ``thumbnail`` and ``preview`` are WebP, upright, in sRGB and without
    metadata; both are set, or neither is. ``model_input`` is set if it was asked for.
    """

    format: Format
    size: int
    sha256: bytes
    width: int
    height: int
    placeholder: str
    truncated: bool
    colours: tuple[int, ...]
    metadata: Metadata
    thumbnail: bytes | None = None
    preview: bytes | None = None
    model_input: ModelInput | None = None

    @property
    def content_type(self) -> str:
        """The media type of the content, whatever the name of the file."""
        return self.format.content_type

    def columns(self) -> dict[str, Any]:
        """Return the fields of shared.models.NewImage that depend on the file alone."""
        return {
            **vars(self.metadata),
            "exif": self.metadata.exif or None,
            "sha256": self.sha256,
            "size": self.size,
            "content_type": self.content_type,
            "width": self.width,
            "height": self.height,
            "placeholder": self.placeholder,
            "derivatives": self.thumbnail is not None,
            "truncated": self.truncated,
            "colours": self.colours,
        }


def examine(
    source: Source,
    *,
    derivatives: bool = True,
    sidecar: bytes = b"",
    prepare: Callable[[Image.Image], Image.Image] | None = None,
) -> Examined:
    """Return the properties of the image, and thumbnail and preview unless *derivatives* is false.

    The metadata in *sidecar*, an XMP file, takes precedence over that in the image; a malformed one is ignored.
    *prepare* turns the whole upright image, with its stored colours, into what a model sees. Raises ImageRefused.
    """
    box = _PREVIEW_BOX if derivatives else _COLOUR_BOX
    with opened(source) as file:
        digest = hashlib.file_digest(file, "sha256").digest()
        size = file.seek(0, io.SEEK_END)
        decoded = decode(file, needed=None if prepare else lambda full: _within(box, full))
        metadata = read_metadata(decoded, sidecar)
        preview = _reduced(decoded, box).upright(_within(box, decoded.size))
        model_input = _model_input(prepare(decoded.upright(convert_colours=False))) if prepare else None
    thumbnail = _shrunk(preview, _thumbnail_box(preview.size))
    return Examined(
        format=decoded.format,
        size=size,
        sha256=digest,
        width=decoded.size[0],
        height=decoded.size[1],
        placeholder=_data_url(_shrunk(thumbnail, _PLACEHOLDER_BOX)),
        truncated=decoded.truncated,
        colours=tuple(colour_codes(thumbnail)),
        metadata=metadata,
        thumbnail=_webp(thumbnail, **_THUMBNAIL_WEBP) if derivatives else None,
        preview=_webp(preview, **_PREVIEW_WEBP) if derivatives else None,
        model_input=model_input,
    )


def _thumbnail_box(size: Size) -> Size:
    """Return the box of a thumbnail: wider for a panorama, so that its middle fills a tile."""
    width, height = _THUMBNAIL_BOX
    return max(width, round(width * size[0] / size[1] / _WIDEST_TILE)), height


@dataclass(frozen=True)
class Glance:
    """The size of an upright image, and a thumbnail as a data: URL of some kilobytes."""

    width: int
    height: int
    thumbnail: str


def glance(source: Source) -> Glance:
    """Return the size and a small thumbnail of an uploaded query image.

    Raises ImageRefused, also for more than MAX_QUERY_PIXELS.
    """
    with opened(source) as file:
        check_pixels(file, MAX_QUERY_PIXELS)
        decoded = decode(file, needed=lambda full: _within(_GLANCE_BOX, full))
        return Glance(*decoded.size, _data_url(decoded.upright(_within(_GLANCE_BOX, decoded.size))))


def check_query_picture(source: Source) -> None:
    """Raise ImageRefused for a picture to search for that has more than MAX_QUERY_PIXELS, or no valid header."""
    with opened(source) as file:
        check_pixels(file, MAX_QUERY_PIXELS)


def _reduced(decoded: Decoded, box: Size) -> Decoded:
    """Return a JPEG, if at least twice as large as *box* needs, at a fraction of its size, as its decoder would."""
    factor = min(decoded.image.size) // min(_within(box, decoded.image.size))
    if decoded.format is not Format.JPEG or factor < 2:
        return decoded
    return replace(decoded, image=decoded.image.reduce(factor))


def _model_input(image: Image.Image) -> ModelInput:
    return ModelInput(image.width, image.height, image.tobytes())


def _data_url(image: Image.Image) -> str:
    return "data:image/webp;base64," + base64.b64encode(_webp(image, **_THUMBNAIL_WEBP)).decode()


def _within(box: Size, size: Size) -> Size:
    """Return *size* scaled down to fit into *box*, at least one pixel on each side."""
    scale = min(1, box[0] / size[0], box[1] / size[1])
    return max(1, round(size[0] * scale)), max(1, round(size[1] * scale))


def _shrunk(image: Image.Image, box: Size) -> Image.Image:
    return image.resize(_within(box, image.size), Image.Resampling.LANCZOS, reducing_gap=2.0)


def _webp(image: Image.Image, *, quality: int, method: int) -> bytes:
    file = io.BytesIO()
    image.save(file, "WEBP", quality=quality, method=method)
    return file.getvalue()
