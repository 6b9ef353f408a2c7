"""Offline model without download or account: two small networks from Python packages.

``build`` describes how it works. It is built once, in some seconds, into a folder that all processes share.
"""

import asyncio
import os
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Literal, ParamSpec, TypeVar

import numpy as np
from numpy.typing import NDArray

from shared.embedders.base import ImageInput, Vector, gather_all, unit_vector
from shared.embedders.examination import examine_for_offline
from shared.embedders.offline.cache import check_packages, ensure_built
from shared.embedders.offline.pixels import read_pixels
from shared.errors import ImageRefused
from shared.images import Examined
from shared.images.worker_pool import DecoderPool

P = ParamSpec("P")
T = TypeVar("T")


class OfflineEmbedder:
    """Small networks for images and texts whose vectors share one space, on the CPU. Safe for concurrent calls."""

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
        self._building = asyncio.Lock()
        self._built = False
        self._loading = threading.Lock()
        self._loaded: dict[Callable[[Path], Any], Any] = {}

    async def examination(self, path: Path, derivatives: bool) -> Examined:
        return await self._decoder.run(examine_for_offline, path, derivatives=derivatives)

    async def embed_images(self, images: Sequence[ImageInput]) -> list[Vector | ImageRefused]:
        return await gather_all(self._embed_image(image) for image in images)

    async def embed_texts(self, texts: Sequence[str]) -> NDArray[np.float32]:
        return await self._run(self._embed_texts, texts)

    async def reference_vectors(self) -> NDArray[np.float32]:
        """Return the unit vectors [1000, 384] of the classes that the image network distinguishes."""
        return await self._run(self._class_vectors)

    async def close(self) -> None:
        await asyncio.to_thread(self._threads.shutdown)
        self._loaded.clear()

    async def _embed_image(self, image: ImageInput) -> Vector | ImageRefused:
        async with self._in_flight:
            try:
                pixels = image.prepared.array if image.prepared else await self._decoder.run(read_pixels, image.data)
                vector = await self._run(self._embed_pixels, pixels)
                return unit_vector(vector, dimensions=self.dimensions)
            except ImageRefused as refused:
                return refused

    async def _run(self, function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        async with self._building:
            if not self._built:
                await ensure_built(self._cache)
                self._built = True
        return await asyncio.wrap_future(self._threads.submit(function, *args, **kwargs))

    # ONNX Runtime is an optional package that takes long to import, hence the late imports.

    def _embed_pixels(self, pixels: NDArray[np.uint8]) -> NDArray[np.float32]:
        from shared.embedders.offline.towers import OfflineImageTower

        return self._load(OfflineImageTower).embed(pixels)

    def _embed_texts(self, texts: Sequence[str]) -> NDArray[np.float32]:
        from shared.embedders.offline.bridge import MultilingualTextTower

        return self._load(MultilingualTextTower).embed(texts)

    def _class_vectors(self) -> NDArray[np.float32]:
        from shared.embedders.offline.towers import read_class_vectors

        return self._load(read_class_vectors)

    def _load(self, part: Callable[[Path], T]) -> T:
        """Return *part* of the built model, which is read once."""
        with self._loading:
            if part not in self._loaded:
                self._loaded[part] = part(self._cache)
            loaded: T = self._loaded[part]
            return loaded
