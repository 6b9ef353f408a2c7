"""Pictures made for tests: small, each with content of its own."""

from pathlib import Path

import numpy as np
from PIL import Image


def make_pictures(folder: Path, count: int, *, first: int = 0, size: tuple[int, int] = (48, 32)) -> list[Path]:
    """Write *count* small JPEGs, each different from all others, spread over some subfolders; return their paths."""
    paths = []
    for number in range(first, first + count):
        path = folder / f"set {number % 7}" / f"picture-{number:04}.jpg"
        path.parent.mkdir(parents=True, exist_ok=True)
        noise = np.random.default_rng(number).integers(0, 256, (4, 6, 3), dtype=np.uint8)
        Image.fromarray(noise).resize(size, Image.Resampling.BICUBIC).save(path, quality=90)
        paths.append(path)
    return paths
