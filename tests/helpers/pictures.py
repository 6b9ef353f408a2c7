"""Pictures made for tests: small, and different for every seed."""

import io
from pathlib import Path
from typing import Any

import numpy as np
import pillow_heif
import pytest
from PIL import Image, ImageDraw, ImageFont

_JAPANESE_FONT = Path("/usr/share/fonts/truetype/vlgothic/VL-Gothic-Regular.ttf")


def encode(image: Image.Image, kind: str = "JPEG", **options: Any) -> bytes:
    """Return *image* as a file of a *kind* that Pillow names, or HEIF; *options* are those of the encoder."""
    file = io.BytesIO()
    if kind == "HEIF":
        pillow_heif.from_pillow(image).save(file, quality=90, **options)
    else:
        image.save(file, kind, **options)
    return file.getvalue()


def noise(seed: int, size: tuple[int, int] = (48, 32)) -> Image.Image:
    """Return an RGB picture of smooth coloured patches."""
    patches = np.random.default_rng(seed).integers(0, 256, (4, 6, 3), dtype=np.uint8)
    return Image.fromarray(patches).resize(size, Image.Resampling.BICUBIC)


def picture(seed: int, size: tuple[int, int] = (48, 32), kind: str = "JPEG", **options: Any) -> bytes:
    """Return the file of ``noise(seed, size)``."""
    return encode(noise(seed, size), kind, **options)


def plain_picture(colour: tuple[int, ...] | str, size: tuple[int, int] = (48, 32), kind: str = "JPEG") -> bytes:
    """Return the file of a picture of one colour."""
    return encode(Image.new("RGB", size, colour), kind)


def waves(number: int, size: tuple[int, int]) -> bytes:
    """Return a PNG of three-coloured waves with hard edges: a crop that is off by one pixel looks different."""
    width, height = size
    y, x = np.mgrid[:height, :width].astype(np.float64)
    channels = [
        np.sin((number + 2) * np.pi * (x / width) ** 2 + channel + number) * np.cos((channel + 1) * np.pi * y / height)
        for channel in range(3)
    ]
    values = 127.5 + 90 * np.stack(channels, axis=-1)
    checks = ((x // (3 + number % 4) + y // (5 - number % 3)) % 2 == 0) & (x * height > y * width)
    values[checks] = 255 - values[checks]
    return encode(Image.fromarray(np.rint(values).astype(np.uint8)), "PNG")


def make_pictures(folder: Path, count: int, *, first: int = 0, size: tuple[int, int] = (48, 32)) -> list[Path]:
    """Write *count* small JPEGs, all different, spread over subfolders; return their paths."""
    paths = []
    for number in range(first, first + count):
        path = folder / f"set {number % 7}" / f"picture-{number:04}.jpg"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(picture(number, size, quality=90))
        paths.append(path)
    return paths


def lettering(text: str, *, size: int = 40, tilt: float = 0, japanese: bool = False) -> Image.Image:
    """Return a picture of 800 x 400 pixels with black *text* of *size* pixels, turned to the left by *tilt* degrees.

    *japanese* takes VL Gothic, which has accented letters too, and skips the test where it is not installed. Pillow's
    own font has unaccented Latin letters.
    """
    if japanese and not _JAPANESE_FONT.exists():
        pytest.skip("needs the Debian package fonts-vlgothic")
    font = ImageFont.truetype(_JAPANESE_FONT, size) if japanese else ImageFont.load_default(size)
    image = Image.new("RGB", (800, 400), "white")
    ImageDraw.Draw(image).multiline_text((60, 60), text, font=font, fill="black", spacing=size // 2)
    return image.rotate(tilt, Image.Resampling.BICUBIC, fillcolor="white")
