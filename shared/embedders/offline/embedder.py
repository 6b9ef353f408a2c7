"""The model that needs no download from a hub and no account: two small networks that come as Python packages.

``build`` says how it works. It is built once, in some seconds, into a folder that all processes share.
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
    # Decoding workers import this package, and have no use for ONNX Runtime.
    from shared.embedders.offline.towers import ImageTower, TextTower

P = ParamSpec("P")
T = TypeVar("T")


class OfflineEmbedder:
    """Two small networks whose vectors share one space, computed on this machine's processors.

    It can be called from several tasks at once.
    """

    # A change of the recipe, its data or its networks is a new space, and needs a new name.
    name = "offline-v1"
    dimensions = 384
    batch_size = 4  # each image's file is held in memory meanwhile, and more at once are no faster
    wants: Literal["data", "address"] = "data"
    local = True
    price_per_image = 0.0
    calls = 0
    notice: str | None = (
        "The offline model is not CLIP: it knows 1,000 kinds of things and is weak on actions, relations and people. "
        "It shows how the program works, without an account or a download."
    )

    def __init__(self, models: Path, decoder: DecoderPool, *, threads: int | None = None) -> None:
        """Use the model in a folder of its own below *models*, building it there when first needed.

        *threads* is how many images or texts are computed at once, one on each processor unless given.
        Raises SettingsError when the packages of the extra ``offline`` are missing.
        """
        self._cache = models / self.name
        check_packages(self._cache)
        threads = threads or os.cpu_count() or 1
        self._decoder = decoder
        self._threads = ThreadPoolExecutor(threads, thread_name_prefix="offline-model")
        # Enough that neither decoders nor networks wait for each other; more would only fill memory with pixels.
        self._in_flight = asyncio.Semaphore(4 * threads)
        self._loading = threading.Lock()  # held while one of the cached properties below is made

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

    async def background(self) -> NDArray[np.float32]:
        """Return 1,000 stand-ins for images, unit-length vectors [1000, 384].

        What a query scores against them tells whether its best match in a collection is better than chance.
        """
        return await self._run(self._read_background)

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

    def _read_background(self) -> NDArray[np.float32]:
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
