"""The two networks: one finds lines of text, one reads a line. Calls block and are thread-safe."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from shared.ocr.boxes import Quad, find_boxes
from shared.onnx_network import open_network, run_network

# The longer side of a picture for the detector, in pixels; both sides are multiples of 32.
_DETECTOR_SIDE = 736
# Of PP-OCR's own configuration.
_THRESHOLD, _MIN_MEAN, _GROWTH = 0.3, 0.6, 1.6
_MIN_SIDE = 5.0  # pixels; smaller boxes hold no legible text
_LINE_HEIGHT = 48  # pixels
# Lines that are this much taller than wide run from top to bottom.
_VERTICAL = 1.5
_MAX_LINE_WIDTH = 3200  # pixels; longer ones are squeezed
_BLANK = 0  # the class between two characters


class TextDetector:
    """PP-OCRv6's small detector of lines of text."""

    def __init__(self, folder: Path) -> None:
        self._session = open_network(folder / "PP-OCRv6_det_small.onnx")

    def find(self, image: Image.Image) -> list[Quad]:
        """Return the boxes of the lines in an RGB image, in the order of reading: row by row, each from the left."""
        scale = min(1, _DETECTOR_SIDE / max(image.size))
        size = [max(32, round(side * scale / 32) * 32) for side in image.size]
        reduced = image.resize((size[0], size[1]), Image.Resampling.BILINEAR)
        probabilities = run_network(self._session, x=_network_input(reduced))[0, 0]
        found = find_boxes(probabilities, threshold=_THRESHOLD, min_mean=_MIN_MEAN, growth=_GROWTH)
        boxes = [box * image.size / size for box in found if min(_sides(box)) >= _MIN_SIDE]
        return _in_rows(boxes)


class TextRecogniser:
    """PP-OCRv6's small recogniser: 18,707 characters of Latin scripts, Chinese and Japanese."""

    def __init__(self, folder: Path) -> None:
        self._session = open_network(folder / "PP-OCRv6_rec_small.onnx")
        characters = self._session.get_modelmeta().custom_metadata_map["character"].split("\n")
        self._characters = ["", *characters, " "]

    def read(self, image: Image.Image, box: Quad) -> tuple[str, float]:
        """Return the text in *box* of an RGB image and the mean probability of its characters."""
        values = run_network(self._session, x=_network_input(_line(image, box)))[0]
        best = values.argmax(axis=1)
        return _decode(best, values[np.arange(len(best)), best], self._characters)


def _in_rows(boxes: Sequence[Quad]) -> list[Quad]:
    """Return the boxes row by row. A box belongs to a row if its middle is above the bottom of the row's first box."""
    rows: list[list[Quad]] = []
    for box in sorted(boxes, key=lambda box: float(box[:, 1].mean())):
        if rows and box[:, 1].mean() < rows[-1][0][2:, 1].min():
            rows[-1].append(box)
        else:
            rows.append([box])
    return [box for row in rows for box in sorted(row, key=lambda box: float(box[0, 0]))]


def _decode(
    classes: NDArray[np.intp], probabilities: NDArray[np.float32], characters: Sequence[str]
) -> tuple[str, float]:
    """Return the text of the best class of each column, and the mean probability of its characters.

    Equal neighbours are one character, and blanks separate (Graves et al. 2006, "Connectionist Temporal
    Classification").
    """
    starts = np.flatnonzero(np.diff(classes, prepend=-1))
    starts = starts[classes[starts] != _BLANK]
    text = "".join(characters[number] for number in classes[starts])
    return text, float(probabilities[starts].mean()) if len(starts) else 0.0


def _line(image: Image.Image, box: Quad) -> Image.Image:
    """Return the line in *box*, upright or, if it is vertical, turned to the left, 48 pixels high."""
    width, height = _sides(box)
    if height >= _VERTICAL * width:
        box, width, height = np.roll(box, -1, axis=0), height, width
    upper_left, upper_right, lower_right, lower_left = box
    corners = np.concatenate([upper_left, lower_left, lower_right, upper_right])
    size = max(1, round(width)), max(1, round(height))
    line = image.transform(size, Image.Transform.QUAD, tuple(corners), Image.Resampling.BICUBIC)
    columns = min(_MAX_LINE_WIDTH, max(1, round(_LINE_HEIGHT * width / height)))
    return line.resize((columns, _LINE_HEIGHT), Image.Resampling.BILINEAR)


def _sides(box: Quad) -> tuple[float, float]:
    """Return width and height of a rectangle."""
    return float(np.linalg.norm(box[1] - box[0])), float(np.linalg.norm(box[3] - box[0]))


def _network_input(image: Image.Image) -> NDArray[np.float32]:
    """Return the values [1, 3, height, width] from -1 to 1, in the order blue, green, red of the training."""
    values = np.asarray(image)[:, :, ::-1].astype(np.float32) / 127.5 - 1
    return np.ascontiguousarray(values.transpose(2, 0, 1)[np.newaxis])
