"""CLIP and SigLIP on this machine with ONNX Runtime, without PyTorch.

``layouts`` reads the folder of a model, ``preprocess`` and ``tokenize`` prepare inputs like the reference
implementations, ``towers`` runs the networks, and ``hub`` downloads models by name.
"""

import asyncio
import os
from collections.abc import Awaitable, Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import numpy as np
from numpy.typing import NDArray

from shared.embedders.base import ImageInput, Vector, gather_all, unit_vector
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
from shared.embedders.examination import examine_for_clip
from shared.errors import ImageRefused, ModelError, SettingsError
from shared.images import Examined
from shared.images.worker_pool import DecoderPool

if TYPE_CHECKING:
    # Needs ONNX Runtime, an optional package that takes long to import.
    from shared.embedders.clip.towers import ImageTower, TextTower

# Images per call of the network. An image took ViT-B/32 107 ms of CPU time alone, 92 in a batch of four, and no less in
# larger batches.
_CPU_BATCH = 4
_GPU_BATCH = 32

_PACKAGES = {
    "onnxruntime": "onnxruntime",
    "tokenizers": "tokenizers",
    "ftfy": "ftfy",
    "huggingface_hub": "huggingface-hub",
}


@dataclass(frozen=True)
class _ImagePipeline:
    """The loaded image tower and its batches in flight."""

    tower: "ImageTower"
    preprocessing: Preprocessing
    batch: int
    threads: ThreadPoolExecutor
    # Enough batches to keep decoders and network busy; more would only fill memory with pixels.
    in_flight: asyncio.Semaphore


class ClipEmbedder:
    """A CLIP or SigLIP model in ONNX files, chosen by name or by folder.

    ``name`` is ``clip:`` and the name of the model, or that of the folder with a fingerprint of its weights. Each tower
    is downloaded and loaded on first use, so that queries alone never load the larger one.
    """

    batch_size = 4  # the files are in memory during the call, and larger batches are no faster
    input_kind: Literal["data", "address"] = "data"
    local = True
    price_per_image = 0.0
    calls = 0
    notice: str | None = None

    def __init__(self, model: str, cache: Path, decoder: DecoderPool, *, endpoint: str | None = None) -> None:
        """*model* is a name in HUB_MODELS or a folder in one of the layouts of ``layouts``.

        Models by name are downloaded on first use into a folder of *cache*, from the public hub unless *endpoint* is
        given. Raises SettingsError for an unknown model or a missing package, ModelError for an incomplete folder.
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
            # Report problems of the folder now and not after the first photo.
            read_text_model(self._folder)
            read_image_model(self._folder)
        self._endpoint = endpoint
        self._decoder = decoder
        self._loading = {tower: asyncio.Lock() for tower in Tower}
        self._image_pipeline: _ImagePipeline | None = None
        self._text_tower: TextTower | None = None

    @property
    def examination(self) -> Callable[[Path, bool], Awaitable[Examined]] | None:
        """Examine a file for this model; None before the model is loaded."""
        if self._image_pipeline is None:
            return None
        preprocessing = asdict(self._image_pipeline.preprocessing)

        def examine(path: Path, derivatives: bool) -> Awaitable[Examined]:
            return self._decoder.run(examine_for_clip, path, derivatives=derivatives, preprocessing=preprocessing)

        return examine

    async def embed_images(self, images: Sequence[ImageInput]) -> list[Vector | ImageRefused]:
        loaded = await self._load_image_pipeline()
        batches = [images[start : start + loaded.batch] for start in range(0, len(images), loaded.batch)]
        results = await gather_all(self._embed_batch(loaded, batch) for batch in batches)
        return [vector for batch in results for vector in batch]

    async def embed_texts(self, texts: Sequence[str]) -> NDArray[np.float32]:
        tower = await self._load_text_tower()
        return await asyncio.to_thread(self._embed_texts, tower, texts)

    async def text_digest(self) -> str:
        """Return the fingerprint of the text tower, after downloading it if necessary."""
        async with self._loading[Tower.TEXT]:
            await self._fetch(Tower.TEXT)
        return await asyncio.to_thread(text_fingerprint, self._folder)

    async def device(self) -> str:
        """Return the execution provider for images, and why a better one is not used, after loading the model."""
        return (await self._load_image_pipeline()).tower.device

    async def close(self) -> None:
        images, self._image_pipeline, self._text_tower = self._image_pipeline, None, None
        if images:
            await asyncio.to_thread(images.threads.shutdown)

    async def _embed_batch(self, loaded: _ImagePipeline, images: Sequence[ImageInput]) -> list[Vector | ImageRefused]:
        async with loaded.in_flight:
            results = await asyncio.gather(*(self._read_pixels(image, loaded.preprocessing) for image in images))
            pixels = [result for result in results if not isinstance(result, ImageRefused)]
            if not pixels:
                return [result for result in results if isinstance(result, ImageRefused)]
            loop = asyncio.get_running_loop()
            vectors = iter(await loop.run_in_executor(loaded.threads, loaded.tower.embed, pixels))
        return [result if isinstance(result, ImageRefused) else self._unit_vector(next(vectors)) for result in results]

    async def _read_pixels(self, image: ImageInput, preprocessing: Preprocessing) -> NDArray[np.uint8] | ImageRefused:
        if image.prepared:
            return image.prepared.array
        try:
            return await self._decoder.run(read_pixels, image.data, asdict(preprocessing))
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

    async def _load_image_pipeline(self) -> _ImagePipeline:
        async with self._loading[Tower.IMAGE]:
            if self._image_pipeline is None:
                await self._fetch(Tower.IMAGE)
                self._image_pipeline = await asyncio.to_thread(self._open_image_pipeline)
            return self._image_pipeline

    async def _load_text_tower(self) -> "TextTower":
        async with self._loading[Tower.TEXT]:
            if self._text_tower is None:
                await self._fetch(Tower.TEXT)
                self._text_tower = await asyncio.to_thread(self._open_text_tower)
            return self._text_tower

    async def _fetch(self, tower: Tower) -> None:
        if self._hub_model:
            await fetch(self._hub_model, self._folder, tower, endpoint=self._endpoint)

    def _open_image_pipeline(self) -> _ImagePipeline:
        from shared.embedders.clip.towers import ImageTower

        model = read_image_model(self._folder)
        tower = ImageTower(model, dimensions=self.dimensions)
        cores = os.cpu_count() or 1
        threads = 1 if tower.accelerated else cores
        batch = (_GPU_BATCH if tower.accelerated else _CPU_BATCH) if tower.takes_batches else 1
        return _ImagePipeline(
            tower,
            model.preprocessing,
            batch=batch,
            threads=ThreadPoolExecutor(threads, thread_name_prefix="clip"),
            in_flight=asyncio.Semaphore(max(2, 8 * cores // batch)),
        )

    def _open_text_tower(self) -> "TextTower":
        from shared.embedders.clip.towers import TextTower

        return TextTower(read_text_model(self._folder), dimensions=self.dimensions)


def _model_folder(model: str) -> Path:
    folder = Path(model).expanduser().absolute()
    if not folder.is_dir():
        names = ", ".join(known.name for known in HUB_MODELS)
        raise SettingsError(f"CLIP_MODEL is {model!r}: give one of {names}, or a folder with a model in ONNX files")
    return folder
