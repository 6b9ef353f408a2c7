"""Sample photos for the demo, which need no download: they ship with scikit-image and scikit-learn.

The documentation of ``skimage.data`` names the source of each; most are in the public domain or CC0. The two of
scikit-learn are CC BY 2.0: the pagoda by danielbuechele, the flower by vultilion.
"""

import shutil
import sys
from importlib.util import find_spec
from pathlib import Path

from shared.errors import SettingsError

# Package, file inside it, and a descriptive name. Drawings, test patterns and scans are left out.
_PHOTOS = [
    ("skimage", "data/astronaut.png", "astronaut"),
    ("skimage", "data/brick.png", "brick-wall"),
    ("skimage", "data/camera.png", "photographer"),
    ("skimage", "data/cell.png", "cell"),
    ("skimage", "data/chelsea.png", "cat"),
    ("skimage", "data/clock_motion.png", "clock-in-motion"),
    ("skimage", "data/coffee.png", "coffee"),
    ("skimage", "data/coins.png", "coins"),
    ("skimage", "data/grass.png", "grass"),
    ("skimage", "data/gravel.png", "gravel"),
    ("skimage", "data/hubble_deep_field.jpg", "galaxies"),
    ("skimage", "data/ihc.png", "tissue"),
    ("skimage", "data/moon.png", "moon"),
    ("skimage", "data/motorcycle_left.png", "motorcycle-left"),
    ("skimage", "data/motorcycle_right.png", "motorcycle-right"),
    ("skimage", "data/retina.jpg", "retina"),
    ("skimage", "data/rocket.jpg", "rocket"),
    ("sklearn", "datasets/images/china.jpg", "pagoda"),
    ("sklearn", "datasets/images/flower.jpg", "flower"),
]


def sample_photos(folder: Path) -> list[Path]:
    """Copy the photos into *folder*, which is created, and return their paths. Existing files are not overwritten.

    Raises SettingsError when the packages of the extra ``demo`` are missing.
    """
    sources = [(_package_folder(package) / file, name) for package, file, name in _PHOTOS]
    folder.mkdir(parents=True, exist_ok=True)
    photos = []
    for source, name in sources:
        photo = folder / f"{name}{source.suffix}"
        if not photo.exists():
            shutil.copyfile(source, photo)
        photos.append(photo)
    return photos


def _package_folder(package: str) -> Path:
    spec = find_spec(package)  # importing the package would take a second
    if spec is None or spec.origin is None:
        raise SettingsError(
            f"the sample photos need the package {package}: install the extra `demo` (pip install '.[demo]')"
        )
    return Path(spec.origin).parent


if __name__ == "__main__":
    sample_photos(Path(sys.argv[1]))
