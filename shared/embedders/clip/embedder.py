"""CLIP and SigLIP on this machine: ONNX Runtime, no PyTorch.

``layouts`` reads what a model's folder says, ``preprocess`` and ``tokenize`` prepare inputs as the reference
implementations do, ``towers`` runs the networks, ``hub`` fetches a model by its name.
"""

import asyncio
import os
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import asdict, dataclass
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import numpy as np
from numpy.typing import NDArray

from shared.embedders.base import Embedder, ImageInput, Vector, unit_vector
from shared.embedders.clip.hub import HUB_MODELS, fetch, known_model
from shared.embedders.clip.layouts import (
    Tower,
    fingerprint,
    read_dimensions,
    read_image_model,
    read_text_model,
    text_fingerprint,
)
from shared.embedders.clip.preprocess import Preprocessing, read_pixels
from shared.errors import ImageRefused, ModelError, SettingsError
from shared.images.worker_pool import DecoderPool

if TYPE_CHECKING:
    # Decoding workers import this package, and have no use for ONNX Runtime.
    from shared.embedders.clip.towers import ImageTower, TextTower

# Images that one call of the network gets. One of ViT-B/32 took 107 ms of processor time alone, 92 among four, and no
# less among eight or sixteen.
_CPU_BATCH = 4
_ACCELERATED_BATCH = 32

_PACKAGES = {
    "onnxruntime": "onnxruntime",
    "tokenizers": "tokenizers",
    "ftfy": "ftfy",
    "huggingface_hub": "huggingface-hub",
}


@dataclass(frozen=True)
class _Images:
    """The tower for images, loaded, and how it is kept busy."""

    tower: "ImageTower"
    preprocessing: Preprocessing
    batch: int
    threads: ThreadPoolExecutor
    # Enough batches that neither decoders nor network wait for each other; more would only fill memory with pixels.
    in_flight: asyncio.Semaphore


class ClipEmbedder:
    """A CLIP or SigLIP model in ONNX files, by its name or in a folder.

    ``name`` is ``clip:`` and the model's own name, or for a folder its name and a fingerprint of its weights. Each of
    the two towers is fetched and loaded when it is first used: what only asks for texts never holds the larger one.
    """

    batch_size = 4  # each image's file is held in memory meanwhile, and more at once are no faster
    wants: Literal["data", "address"] = "data"
    local = True
    price_per_image = 0.0
    calls = 0
    notice: str | None = None

    def __init__(
        self, model: str, cache: Path, decoder: DecoderPool, *, threads: int | None = None, endpoint: str | None = None
    ) -> None:
        """Use the *model*, one of HUB_MODELS by name, or a folder in one of the layouts of ``layouts``.

        A model by name is fetched from the hub (*endpoint*, unless the public one) into a folder of *cache* when first
        needed. *threads* is how many images are computed at once, one on each processor unless given.
        Raises SettingsError for a model that is not there or a missing package, ModelError for a folder that holds no
        complete model.
        """
        if missing := [package for module, package in _PACKAGES.items() if find_spec(module) is None]:
            raise SettingsError(
                f"EMBEDDER=clip needs {' and '.join(missing)}: install the extra, as in pip install '.[clip]'"
            )
        self._hub_model = known_model(model)
        if self._hub_model:
            self._folder = cache / self._hub_model.folder_name
            self.name = f"clip:{self._hub_model.name}"
            self.dimensions = self._hub_model.dimensions
        else:
            self._folder = _model_folder(model)
            self.name = f"clip:{self._folder.name}@{fingerprint(self._folder)}"
            self.dimensions = read_dimensions(self._folder)
            # What is wrong with the folder is better said now than after the first photo.
            read_text_model(self._folder)
            read_image_model(self._folder)
        self._endpoint = endpoint
        self._decoder = decoder
        self._threads = threads or os.cpu_count() or 1
        self._loading = {tower: asyncio.Lock() for tower in Tower}
        self._images: _Images | None = None
        self._texts: TextTower | None = None

    async def embed_images(self, images: Sequence[ImageInput]) -> list[Vector | ImageRefused]:
        loaded = await self._load_images()
        batches = [images[start : start + loaded.batch] for start in range(0, len(images), loaded.batch)]
        results = await asyncio.gather(*(self._embed_batch(loaded, batch) for batch in batches), return_exceptions=True)
        vectors: list[Vector | ImageRefused] = []
        for result in results:
            if isinstance(result, BaseException):
                raise result
            vectors += result
        return vectors

    async def embed_texts(self, texts: Sequence[str]) -> NDArray[np.float32]:
        tower = await self._load_texts()
        return await asyncio.to_thread(self._embed_texts, tower, texts)

    async def text_digest(self) -> str:
        """Return what tells the weights of the tower for texts from others, fetched if they are not there yet."""
        async with self._loading[Tower.TEXT]:
            await self._fetch(Tower.TEXT)
        return await asyncio.to_thread(text_fingerprint, self._folder)

    async def close(self) -> None:
        images, self._images, self._texts = self._images, None, None
        if images:
            await asyncio.to_thread(images.threads.shutdown)

    async def _embed_batch(self, loaded: _Images, images: Sequence[ImageInput]) -> list[Vector | ImageRefused]:
        async with loaded.in_flight:
            results = await asyncio.gather(*(self._read_pixels(image.data, loaded.preprocessing) for image in images))
            pixels = [result for result in results if not isinstance(result, ImageRefused)]
            if not pixels:
                return [result for result in results if isinstance(result, ImageRefused)]
            loop = asyncio.get_running_loop()
            vectors = iter(await loop.run_in_executor(loaded.threads, loaded.tower.embed, pixels))
        return [result if isinstance(result, ImageRefused) else self._unit_vector(next(vectors)) for result in results]

    async def _read_pixels(self, data: bytes, preprocessing: Preprocessing) -> NDArray[np.uint8] | ImageRefused:
        try:
            return await self._decoder.run(read_pixels, data, asdict(preprocessing))
        except ImageRefused as refused:
            return refused

    def _unit_vector(self, values: NDArray[np.float32]) -> Vector | ImageRefused:
        try:
            return unit_vector(values, dimensions=self.dimensions)
        except ImageRefused as refused:
            return refused

    def _embed_texts(self, tower: "TextTower", texts: Sequence[str]) -> NDArray[np.float32]:
        vectors = np.empty((len(texts), self.dimensions), np.float32)
        for row, text in zip(vectors, texts, strict=True):
            try:
                row[:] = unit_vector(tower.embed(text), dimensions=self.dimensions)
            except ImageRefused as exc:
                raise ModelError(f"{self.name} cannot encode the text {text!r}: {exc}", transient=False) from exc
        return vectors

    async def _load_images(self) -> _Images:
        async with self._loading[Tower.IMAGE]:
            if self._images is None:
                await self._fetch(Tower.IMAGE)
                self._images = await asyncio.to_thread(self._open_images)
            return self._images

    async def _load_texts(self) -> "TextTower":
        async with self._loading[Tower.TEXT]:
            if self._texts is None:
                await self._fetch(Tower.TEXT)
                self._texts = await asyncio.to_thread(self._open_texts)
            return self._texts

    async def _fetch(self, tower: Tower) -> None:
        if self._hub_model:
            await _run_detached(partial(fetch, self._hub_model, self._folder, tower, endpoint=self._endpoint))

    def _open_images(self) -> _Images:
        from shared.embedders.clip.towers import ImageTower

        model = read_image_model(self._folder)
        # Each call computes in its caller's thread: two cores with an image each do more than two that share one.
        tower = ImageTower(model, dimensions=self.dimensions, threads=1)
        threads = 1 if tower.accelerated else self._threads
        batch = (_ACCELERATED_BATCH if tower.accelerated else _CPU_BATCH) if tower.takes_batches else 1
        return _Images(
            tower,
            model.preprocessing,
            batch=batch,
            threads=ThreadPoolExecutor(threads, thread_name_prefix="clip"),
            in_flight=asyncio.Semaphore(max(2, 8 * self._threads // batch)),
        )

    def _open_texts(self) -> "TextTower":
        from shared.embedders.clip.towers import TextTower

        return TextTower(read_text_model(self._folder), dimensions=self.dimensions)


async def agreement(
    embedder: Embedder,
    vector: Sequence[float] | NDArray[np.floating],
    *,
    image: bytes | None = None,
    text: str | None = None,
) -> float:
    """Return the cosine of *vector* with the vector that *embedder* itself gives that *image*, or that *text*.

    This tells whether vectors made elsewhere, say by the same weights behind an API, may be compared with ours: they
    may from 0.999. Preprocessing differs more often than weights do, so an image says more than a text; a text needs
    only the tower for texts. A vector of other dimensions agrees to 0. Raises what embedding raises.
    """
    if image is not None:
        (own,) = await embedder.embed_images([ImageInput(data=image)])
        if isinstance(own, ImageRefused):
            raise own
    else:
        (own,) = await embedder.embed_texts([text or ""])
    if np.shape(vector) != own.shape:
        return 0.0
    return float(own @ unit_vector(vector, dimensions=len(own)))


def _model_folder(model: str) -> Path:
    folder = Path(model).expanduser().absolute()
    if not folder.is_dir():
        names = ", ".join(known.name for known in HUB_MODELS)
        raise SettingsError(
            f"CLIP_MODEL is {model!r}: give one of {names}, or a folder that holds a model in ONNX files"
        )
    return folder


async def _run_detached(function: Callable[[], None]) -> None:
    """Run *function* in a thread that the program does not wait for when it ends: a download takes minutes."""
    future: Future[None] = Future()
    future.set_running_or_notify_cancel()

    def work() -> None:
        try:
            function()
        except Exception as exc:
            future.set_exception(exc)
        else:
            future.set_result(None)

    threading.Thread(target=work, daemon=True, name="clip-download").start()
    await asyncio.wrap_future(future)
