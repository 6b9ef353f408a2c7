"""Everything that is kept of an image: its facts, and the small pictures that the gallery shows in its place.

Pillow makes them. libvips was tried in its place (both with one core, as a worker has, medians of seven): for a photo
of 12 megapixels, thumbnail and preview take 0.23 s with Pillow and 0.26 s with libvips, since both decode JPEG at half
size inside libjpeg-turbo, and more than a third of the time is libwebp's in either. What libvips gains, it gains by
threads, which the worker processes use up already; its binary package reads no HEIC; and two decoders are two to trust.
"""

import base64
import hashlib
import io
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from PIL import Image

from shared.images.decode import Size, decode, opened, to_srgb
from shared.images.formats import Format
from shared.images.metadata import Metadata, read_metadata

# Twice the width of a column of the gallery, for dense screens, and tall enough for a phone's screenshot.
_THUMBNAIL_BOX = (512, 1024)
_PREVIEW_BOX = (1600, 1600)
_PLACEHOLDER_BOX = (16, 16)
_GLANCE_BOX = (192, 192)
# libwebp's fastest but one: the next takes 60 ms longer for a preview, and saves a tenth of its bytes.
_WEBP_METHOD = 1
_WEBP_QUALITY = 80


@dataclass(frozen=True)
class Examined:
    """What is known of an image, and what was made from it.

    ``size`` (bytes) and ``sha256`` are those of the bytes looked at. ``width`` and ``height`` are those of the picture
    as it is shown. ``placeholder`` is the picture at 16 pixels in a data: URL of about 250 characters, for an <img> or
    a background, which any browser blurs by enlarging it. ``truncated`` says that the file ends early.
    ``thumbnail`` and ``preview`` are WebP, upright, in sRGB, without metadata; both or neither.
    """

    format: Format
    size: int
    sha256: bytes
    width: int
    height: int
    placeholder: str
    truncated: bool
    metadata: Metadata
    thumbnail: bytes | None = None
    preview: bytes | None = None

    @property
    def content_type(self) -> str:
        """The media type of what the file really holds."""
        return self.format.content_type

    @property
    def orientation(self) -> Literal["landscape", "portrait", "square"]:
        """Which side is the longer one; nearly square, within a twentieth, is square."""
        if abs(self.width - self.height) * 20 <= max(self.width, self.height):
            return "square"
        return "landscape" if self.width > self.height else "portrait"

    def columns(self) -> dict[str, Any]:
        """Return the fields of shared.models.NewImage that the file itself decides."""
        return {
            "sha256": self.sha256,
            "size": self.size,
            "content_type": self.content_type,
            "width": self.width,
            "height": self.height,
            "placeholder": self.placeholder,
            "derivatives": self.thumbnail is not None,
            "truncated": self.truncated,
            "taken_at": self.metadata.taken_at,
            "camera": self.metadata.camera,
            "lens": self.metadata.lens,
            "keywords": self.metadata.keywords,
            "caption": self.metadata.caption,
            "latitude": self.metadata.latitude,
            "longitude": self.metadata.longitude,
            "exif": self.metadata.exif or None,
        }


def examine(source: bytes | Path, *, derivatives: bool = True) -> Examined:
    """Return all that is kept of the image; without *derivatives* no thumbnail and no preview are made.

    Raises ImageRefused for what cannot be shown, with the reason.
    """
    box = _PREVIEW_BOX if derivatives else _PLACEHOLDER_BOX
    with opened(source) as file:
        digest = hashlib.file_digest(file, "sha256").digest()
        size = file.seek(0, io.SEEK_END)
        decoded = decode(file, needed=lambda shown: _within(box, shown))
        metadata = read_metadata(decoded)
        # Colours, turns and the smaller pictures are worked out on the preview's pixels, a fraction of the photo's.
        upright = decoded.upright(to_srgb(decoded.image, size=decoded.lying(_within(box, decoded.size))))
    thumbnail = _shrunk(upright, _THUMBNAIL_BOX)
    return Examined(
        format=decoded.format,
        size=size,
        sha256=digest,
        width=decoded.size[0],
        height=decoded.size[1],
        placeholder=_data_url(_shrunk(thumbnail, _PLACEHOLDER_BOX)),
        truncated=decoded.truncated,
        metadata=metadata,
        thumbnail=_webp(thumbnail) if derivatives else None,
        preview=_webp(upright) if derivatives else None,
    )


@dataclass(frozen=True)
class Glance:
    """An image's size as it is shown, and a small picture of it in a data: URL of some kilobytes."""

    width: int
    height: int
    thumbnail: str


def glance(source: bytes | Path) -> Glance:
    """Return what is shown of an image that is not kept. Raises ImageRefused for what cannot be shown."""
    with opened(source) as file:
        decoded = decode(file, needed=lambda shown: _within(_GLANCE_BOX, shown))
        upright = decoded.upright(to_srgb(decoded.image, size=decoded.lying(_within(_GLANCE_BOX, decoded.size))))
    return Glance(*decoded.size, _data_url(upright))


def _data_url(image: Image.Image) -> str:
    return "data:image/webp;base64," + base64.b64encode(_webp(image)).decode()


def _within(box: Size, size: Size) -> Size:
    """Return *size* scaled down to fit into *box*, each side at least one pixel."""
    scale = min(1, box[0] / size[0], box[1] / size[1])
    return max(1, round(size[0] * scale)), max(1, round(size[1] * scale))


def _shrunk(image: Image.Image, box: Size) -> Image.Image:
    return image.resize(_within(box, image.size), Image.Resampling.LANCZOS, reducing_gap=2.0)


def _webp(image: Image.Image) -> bytes:
    file = io.BytesIO()
    image.save(file, "WEBP", quality=_WEBP_QUALITY, method=_WEBP_METHOD)
    return file.getvalue()
