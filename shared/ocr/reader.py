"""Read the text in pictures, in threads, with bounded memory."""

import asyncio
import os
import threading
from concurrent.futures import ThreadPoolExecutor
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

from PIL import Image

from shared.images import ModelInput, open_rgb
from shared.images.worker_pool import DecoderPool
from shared.models import TextLine

if TYPE_CHECKING:
    from shared.ocr.networks import TextDetector, TextRecogniser

# The longer side of the pictures that are read: that of a preview.
_MAX_SIDE = 1600
# A page of a book has 50; each takes 6 ms of processor time.
_MAX_LINES = 300
# Lower for longer texts, which patterns resemble less often.
_MIN_CONFIDENCE, _MIN_CONFIDENCE_SHORT = 0.7, 0.9
_SHORT = 2  # characters


def weights() -> Path | None:
    """Return the folder of the weights in the package rapidocr, which is not imported; None if it is not installed."""
    spec = find_spec("rapidocr") if find_spec("onnxruntime") else None
    return Path(spec.submodule_search_locations[0], "models") if spec and spec.submodule_search_locations else None


def read_picture(data: bytes) -> ModelInput:
    """Return the upright pixels of an image, at most 1,600 on each side. A decoder task; raises ImageRefused."""
    image = open_rgb(data, at_least=(_MAX_SIDE, _MAX_SIDE))
    image.thumbnail((_MAX_SIDE, _MAX_SIDE), Image.Resampling.BICUBIC)
    return ModelInput(image.width, image.height, image.tobytes())


class TextReader:
    """Reads the text in pictures. Safe for concurrent calls; the networks load on first use."""

    def __init__(self, weights: Path, decoder: DecoderPool, *, threads: int | None = None) -> None:
        """Read *threads* pictures at once, by default one per processor, with the weights in a folder."""
        self._weights = weights
        self._decoder = decoder
        threads = threads or os.cpu_count() or 1
        self._threads = ThreadPoolExecutor(threads, thread_name_prefix="ocr")
        self._in_flight = asyncio.Semaphore(2 * threads)  # bounds the memory for pixels
        self._loading = threading.Lock()
        self._networks: tuple[TextDetector, TextRecogniser] | None = None

    async def read(self, data: bytes) -> list[TextLine]:
        """Return the lines of text in an image file. Raises ImageRefused, and ModelError if a network fails."""
        async with self._in_flight:
            picture = await self._decoder.run(read_picture, data)
            return await asyncio.wrap_future(self._threads.submit(self._read, picture))

    async def close(self) -> None:
        await asyncio.to_thread(self._threads.shutdown)
        self._networks = None

    def _read(self, picture: ModelInput) -> list[TextLine]:
        detector, recogniser = self._load()
        image = Image.frombuffer("RGB", (picture.width, picture.height), picture.rgb)
        lines = []
        for box in detector.find(image)[:_MAX_LINES]:
            text, confidence = recogniser.read(image, box)
            if _is_text(text, confidence):
                corners = (box / image.size).clip(0, 1).round(4)
                lines.append(TextLine(text.strip(), tuple(corners.ravel().tolist())))
        return lines

    def _load(self) -> "tuple[TextDetector, TextRecogniser]":
        # ONNX Runtime is an optional package that takes long to import.
        from shared.ocr.networks import TextDetector, TextRecogniser

        with self._loading:
            if self._networks is None:
                self._networks = TextDetector(self._weights), TextRecogniser(self._weights)
            return self._networks


def _is_text(text: str, confidence: float) -> bool:
    """Return whether a reading is text: single Latin letters and uncertain readings are mostly patterns."""
    if (len(text) == 1 and text.isascii()) or not any(character.isalnum() for character in text):
        return False
    return confidence >= (_MIN_CONFIDENCE_SHORT if len(text) <= _SHORT else _MIN_CONFIDENCE)
