"""Rectangles around the regions of a probability map."""

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

# Corners [4, 2] as x and y in pixels, clockwise, beginning at the upper left of the upright text.
Quad = NDArray[np.float64]

# Directions of the sides that are tried. Half a degree is 9 pixels at the end of a line of 1,000.
_ANGLES = np.radians(np.arange(-45, 45, 0.5))
_DIRECTIONS = np.stack([np.cos(_ANGLES), np.sin(_ANGLES)])


def find_boxes(
    probabilities: NDArray[np.float32], *, threshold: float, min_mean: float, growth: float
) -> Iterator[Quad]:
    """Yield the smallest rectangle around each connected region of a map [height, width] above *threshold*.

    Regions whose mean is below *min_mean* are left out. Each side moves out by *growth* times the ratio of area to
    perimeter, because the detector shrinks the regions to separate lines (Liao et al. 2020, "Real-time Scene Text
    Detection with Differentiable Binarization").
    """
    rows, starts, ends = _runs(probabilities > threshold)
    sums = np.pad(np.cumsum(probabilities, axis=1, dtype=np.float64), ((0, 0), (1, 0)))
    totals = sums[rows, ends] - sums[rows, starts]
    labels = _labels(rows, starts, ends)
    order = np.argsort(labels, kind="stable")
    for runs in np.split(order, np.flatnonzero(np.diff(labels[order])) + 1):
        if len(runs) and totals[runs].sum() >= min_mean * (ends[runs] - starts[runs]).sum():
            yield _smallest_rectangle(rows[runs], starts[runs], ends[runs], growth)


def _runs(mask: NDArray[np.bool_]) -> tuple[NDArray[np.intp], NDArray[np.intp], NDArray[np.intp]]:
    """Return row, start and end of each horizontal run of true values, row by row."""
    steps = np.diff(np.pad(mask, ((0, 0), (1, 1))).astype(np.int8), axis=1)
    rows, starts = np.nonzero(steps == 1)
    return rows, starts, np.nonzero(steps == -1)[1]


def _labels(rows: NDArray[np.intp], starts: NDArray[np.intp], ends: NDArray[np.intp]) -> NDArray[np.intp]:
    """Return a number for each run, the same for all runs that touch each other, diagonally too."""
    labels = np.arange(len(rows))
    stride = int(ends.max(initial=0)) + 2
    # The runs of the next row that touch a run are neighbours in the order of their places.
    first = np.searchsorted(rows * stride + ends, (rows + 1) * stride + starts)
    last = np.searchsorted(rows * stride + starts, (rows + 1) * stride + ends, side="right")
    upper = np.repeat(labels, np.maximum(last - first, 0))
    lower = np.concatenate([np.arange(a, b) for a, b in zip(first, last, strict=True)] or [labels])
    while True:
        smallest = labels.copy()
        np.minimum.at(smallest, upper, labels[lower])
        np.minimum.at(smallest, lower, labels[upper])
        smallest = smallest[smallest]
        if np.array_equal(smallest, labels):
            return labels
        labels = smallest


def _smallest_rectangle(
    rows: NDArray[np.intp], starts: NDArray[np.intp], ends: NDArray[np.intp], growth: float
) -> Quad:
    """Return the rectangle of least area around the runs, grown."""
    corners = [np.stack([x, y], axis=1) for x in (starts, ends) for y in (rows, rows + 1)]
    points = np.concatenate(corners).astype(np.float64)
    along, across = points @ _DIRECTIONS, points @ np.stack([-_DIRECTIONS[1], _DIRECTIONS[0]])
    low = np.stack([along.min(axis=0), across.min(axis=0)])
    high = np.stack([along.max(axis=0), across.max(axis=0)])
    best = int(np.argmin(np.prod(high - low, axis=0)))
    (left, top), (width, height) = low[:, best], (high - low)[:, best]
    margin = growth * width * height / (2 * (width + height))
    xs = np.array([left - margin, left + width + margin])[[0, 1, 1, 0]]
    ys = np.array([top - margin, top + height + margin])[[0, 0, 1, 1]]
    cosine, sine = _DIRECTIONS[:, best]
    return np.stack([xs * cosine - ys * sine, xs * sine + ys * cosine], axis=1)
