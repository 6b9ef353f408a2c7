"""TIFF files: Pillow reads samples of up to 8 bits, tifffile those that Pillow misreads or refuses."""

from typing import Any

from PIL import Image
from PIL.TiffImagePlugin import TiffImageFile

from shared.errors import ImageRefused, Reason

_SUBFILE_TYPE, _BITS, _PHOTOMETRIC, _CHANNELS, _PROFILE, _SAMPLE_FORMAT = 254, 258, 262, 277, 34675, 339
_UNSIGNED = 1
# By photometric interpretation.
_MODES = {0: "L", 1: "L", 2: "RGB", 3: "RGB", 5: "CMYK", 6: "RGB", 8: "LAB", 9: "LAB"}
_PAGES = 8  # where the largest picture is looked for


class TiffFile(TiffImageFile):
    """A TIFF file at its first page, or at a later one if that is much larger or the first is marked as reduced."""

    _deep = False  # whether tifffile reads the current page
    _decoded = False
    samples: tuple[int, int] | None = None  # channels, and bytes of each, if tifffile reads the current page

    def _open(self) -> None:
        super()._open()
        areas = {}
        for page in range(_PAGES):
            try:
                self.seek(page)
            except Exception:  # no more pages, or a broken one
                break
            reduced = bool(self.tag_v2.get(_SUBFILE_TYPE, 0) & 1)
            areas[page] = self.width * self.height // (4 if reduced else 1)
        best = max(areas, key=areas.__getitem__, default=0)
        self._seek(best if areas and areas[best] >= 4 * areas[0] else 0)  # unlike seek(), after a broken page, too
        if _PROFILE not in self.tag_v2:
            self.info.pop("icc_profile", None)  # of a page seen before

    def _setup(self) -> None:
        bits, form = self.tag_v2.get(_BITS, (1,)), self.tag_v2.get(_SAMPLE_FORMAT, (_UNSIGNED,))
        self._deep, self.samples = max(bits) > 8 or set(form) != {_UNSIGNED}, None
        if not self._deep:
            try:
                super()._setup()
            except (SyntaxError, KeyError):
                self._deep = True
            else:
                return
        photometric = self.tag_v2.get(_PHOTOMETRIC, 1)
        if photometric not in _MODES:
            raise ImageRefused(
                Reason.UNSUPPORTED, f"TIFF with photometric interpretation {photometric} is not supported"
            )
        self.samples = self.tag_v2.get(_CHANNELS, 1), (max(bits) + 7) // 8
        self._mode = _MODES[photometric]
        self._size = self._tile_size = self.tag_v2[256], self.tag_v2[257]
        self.tile = []
        if profile := self.tag_v2.get(_PROFILE):
            self.info["icc_profile"] = profile

    def load(self) -> Any:
        """Decode the current page."""
        if not self._deep:
            return super().load()
        if not self._decoded:
            from shared.images.tiff_samples import read_page  # loads NumPy

            assert self.fp is not None
            image = read_page(self.fp, self.tell(), self.mode)
            self._mode, self.im, self._decoded = image.mode, image.im, True
        return Image.Image.load(self)
