"""Examination of an image and preparation for a model in one decoding. Runs in a decoder worker."""

from typing import Any

from shared.embedders.clip.preprocess import Preprocessing
from shared.embedders.offline.pixels import resize
from shared.images import Examined, examine
from shared.images.decode import Source


def examine_for_offline(source: Source, *, derivatives: bool) -> Examined:
    """Return ``examine(source)`` with the input of the offline model."""
    return examine(source, derivatives=derivatives, prepare=resize)


def examine_for_clip(source: Source, *, derivatives: bool, preprocessing: dict[str, Any]) -> Examined:
    """Return ``examine(source)`` with the input of a CLIP model; *preprocessing* has the fields of a Preprocessing."""
    return examine(source, derivatives=derivatives, prepare=Preprocessing(**preprocessing).resize)
