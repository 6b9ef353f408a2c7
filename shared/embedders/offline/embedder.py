"""Offline model without download or account: two small networks from Python packages.

``build`` describes how it works. It is built once, in some seconds, into a folder that all processes share.
"""

import asyncio
import os
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Literal, ParamSpec, TypeVar

import numpy as np
from numpy.typing import NDArray

from shared.embedders.base import ImageInput, Vector, unit_vector
from shared.embedders.offline.cache import check_packages, ensure_built
from shared.embedders.offline.pixels import read_pixels
from shared.errors import ImageRefused
from shared.images.worker_pool import DecoderPool

if TYPE_CHECKING:
    # Decoder workers import this package and must not load ONNX Runtime.
    from shared.embedders.offline.towers import ImageTower, TextTower

P = ParamSpec("P")
T = TypeVar("T")


class OfflineEmbedder:
    """Two small networks whose vectors share one space, computed on the CPU. Safe for concurrent calls."""

    # A change of the recipe, its data or its networks makes another space and needs another name.
    name = "offline-v1"
    dimensions = 384
    batch_size = 4  # the files are in memory during the call, and larger batches are no faster
    input_kind: Literal["data", "address"] = "data"
    local = True
    price_per_image = 0.0
    calls = 0
    notice: str | None = (
        "The offline model is not CLIP: it knows 1,000 kinds of things and is weak on actions, relations and people. "
        "It needs neither an account nor a download."
    )

    def __init__(self, models: Path, decoder: DecoderPool, *, threads: int | None = None) -> None:
        """Use the model in a folder below *models*, where it is built on first use.

        *threads* images or texts are computed at once, by default one per processor. Raises SettingsError if packages
        of the extra ``offline`` are missing.
        """
        self._cache = models / self.name
        check_packages(self._cache)
        threads = threads or os.cpu_count() or 1
        self._decoder = decoder
        self._threads = ThreadPoolExecutor(threads, thread_name_prefix="offline-model")
        # Enough to keep decoders and networks busy; more would only fill memory with pixels.
        self._in_flight = asyncio.Semaphore(4 * threads)
        self._loading = threading.Lock()  # guards the cached properties below

    async def embed_images(self, images: Sequence[ImageInput]) -> list[Vector | ImageRefused]:
        results = await asyncio.gather(*(self._embed_image(image.data) for image in images), return_exceptions=True)
        vectors: list[Vector | ImageRefused] = []
        for result in results:
            if isinstance(result, BaseException) and not isinstance(result, ImageRefused):
                raise result
            vectors.append(result)
        return vectors

    async def embed_texts(self, texts: Sequence[str]) -> NDArray[np.float32]:
        return await self._run(self._embed_texts, texts)

    async def reference_vectors(self) -> NDArray[np.float32]:
        """Return the unit vectors [1000, 384] of the classes that the image network distinguishes."""
        return await self._run(self._read_class_vectors)

    async def close(self) -> None:
        await asyncio.to_thread(self._threads.shutdown)
        for tower in ("_image_tower", "_text_tower"):
            vars(self).pop(tower, None)

    async def _embed_image(self, data: bytes) -> Vector:
        async with self._in_flight:
            pixels = await self._decoder.run(read_pixels, data)
            vector = await self._run(self._embed_pixels, pixels)
            return unit_vector(vector, dimensions=self.dimensions)

    async def _run(self, function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        return await asyncio.wrap_future(self._threads.submit(function, *args, **kwargs))

    def _embed_pixels(self, pixels: NDArray[np.uint8]) -> NDArray[np.float32]:
        with self._loading:
            tower = self._image_tower
        return tower.embed(pixels)

    def _embed_texts(self, texts: Sequence[str]) -> NDArray[np.float32]:
        with self._loading:
            tower = self._text_tower
        return tower.embed(texts)

    def _read_class_vectors(self) -> NDArray[np.float32]:
        from shared.embedders.offline.towers import read_class_vectors

        with self._loading:
            return read_class_vectors(self._folder)

    @cached_property
    def _image_tower(self) -> "ImageTower":
        from shared.embedders.offline.towers import ImageTower

        return ImageTower(self._folder)

    @cached_property
    def _text_tower(self) -> "TextTower":
        from shared.embedders.offline.towers import TextTower

        return TextTower(self._folder)

    @cached_property
    def _folder(self) -> Path:
        return ensure_built(self._cache)
