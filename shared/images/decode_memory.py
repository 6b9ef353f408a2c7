"""Memory that decoding an image takes: estimated from its header, and limited to what the machine has."""

import os
from pathlib import Path

from PIL import Image

from shared.errors import ImageRefused, Reason
from shared.images.formats import Format

MB = 1_000_000
# Bytes for thumbnail and preview and their encoder, whatever the size of the image.
_DERIVATIVES = 20 * MB
# Peak bytes per pixel, from header to upright RGB, measured at 12 megapixels with the dearest task and orientation:
# opaque images, and those with transparency.
_BYTES_PER_PIXEL = {Format.WEBP: (20, 24), Format.HEIC: (12, 16), Format.AVIF: (14, 18)}
# For the formats that Pillow decodes into one buffer, opaque, with one transparent colour, and with an alpha channel.
_OPAQUE, _INKS, _COLOUR_KEY, _ALPHA = 9, 13, 24, 14
# For codecs that return an array: this and the bytes of the sample, per channel.
_BYTES_PER_SAMPLE = 6
_JPEG_REDUCTIONS = (1, 2, 4, 8)

_limit: int | None = None


def set_limit(limit: int) -> None:
    """Refuse images in this process whose decoding needs more than *limit* bytes."""
    global _limit
    _limit = limit


def estimate(kind: Format, image: Image.Image, *, reduction: int = 1) -> int:
    """Return the peak memory in bytes of decoding *image*, of which the header has been read.

    It is never less than the real peak, and seldom more than twice as much.
    """
    needed = _DERIVATIVES + _bytes_per_pixel(kind, image) * image.width * image.height // reduction**2
    return needed + _coefficients(image) if kind is Format.JPEG else needed


def _bytes_per_pixel(kind: Format, image: Image.Image) -> int:
    samples: tuple[int, int] | None = (
        (len(image.getbands()), 1) if kind is Format.JP2 else getattr(image, "samples", None)
    )
    if samples:
        channels, sample_bytes = samples
        return max(_OPAQUE, channels * (sample_bytes + _BYTES_PER_SAMPLE))
    transparent = image.has_transparency_data
    if kind in _BYTES_PER_PIXEL:
        return _BYTES_PER_PIXEL[kind][transparent]
    if transparent:
        return _COLOUR_KEY if image.mode == "RGB" else _ALPHA
    return _INKS if image.mode in ("CMYK", "LAB") else _OPAQUE


def jpeg_reduction(image: Image.Image) -> int:
    """Return how far a JPEG must be reduced while it is decoded, so that the memory suffices: 1, 2, 4 or 8."""
    fitting = (n for n in _JPEG_REDUCTIONS if _limit is None or estimate(Format.JPEG, image, reduction=n) <= _limit)
    return next(fitting, _JPEG_REDUCTIONS[-1])


def check(kind: Format, image: Image.Image) -> None:
    """Raise ImageRefused if decoding *image* needs too much memory, even a JPEG at its smallest scale."""
    reduction = _JPEG_REDUCTIONS[-1] if kind is Format.JPEG else 1
    needed = estimate(kind, image, reduction=reduction)
    if _limit is not None and needed > _limit:
        detail = (
            f"decoding its {image.width:,} x {image.height:,} pixels needs about {needed // MB:,} MB of memory;"
            f" the limit is {_limit // MB:,} MB (DECODE_MEMORY_MB)"
        )
        raise ImageRefused(Reason.TOO_LARGE, detail)


def _coefficients(image: Image.Image) -> int:
    """Return the bytes of the coefficients, which libjpeg holds in memory if several scans refine them."""
    if not image.info.get("progressive"):
        return 0
    samples: list[int] = [layer[1] * layer[2] for layer in getattr(image, "layer", ())]
    return 2 * image.width * image.height * sum(samples) // max(samples, default=1)


def machine_memory() -> int:
    """Return the bytes of memory that this process may use: of the machine, or of its control group if that is less."""
    limits = [os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")]
    for file in _control_group_files():
        text = file.read_text().strip() if file.is_file() else "max"
        if text.isdigit():
            limits.append(int(text))
    return min(limits)


def _control_group_files() -> list[Path]:
    """Return the files with the memory limits of this process's control groups, whether or not they exist."""
    try:
        lines = Path("/proc/self/cgroup").read_text().splitlines()
    except OSError:  # not Linux
        return []
    files = []
    for line in lines:
        _, controllers, group = line.split(":", 2)
        if controllers in ("", "memory"):
            root = Path("/sys/fs/cgroup", controllers)
            name = "memory.limit_in_bytes" if controllers else "memory.max"
            path = root / group.lstrip("/")
            # Inside a container the path may be that of the host, which is not visible.
            files += [folder / name for folder in (path, *path.parents) if folder.is_relative_to(root)]
    return files


def default_limit(memory: int, processors: int, processes: int = 1) -> int:
    """Return the memory for decoding one image: a share of half the memory, but 512 MB if that is at most a quarter.

    Each of *processes* with a pool of its own gets at most its share of half the memory.
    """
    return min(memory // 4, max(512 * MB, memory // 2 // processors), 3000 * MB, memory // 2 // processes)


def worker_count(memory: int, processors: int, limit: int) -> int:
    """Return how many workers half of the memory holds, at most one per processor."""
    return min(processors, max(1, memory // 2 // limit))
