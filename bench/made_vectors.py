"""Made vectors of four kinds, and queries for each, for benchmarks of searches.

All have unit length and half precision, as stored vectors have.
"""

import asyncio
from collections.abc import Callable
from pathlib import Path

import numpy as np
import platformdirs
from numpy.typing import NDArray

Vectors = NDArray[np.float16]  # [n, dimensions]
DIMENSIONS = 768
PER_CLUSTER = 50  # images


def clustered(count: int, queries: int) -> tuple[Vectors, Vectors]:
    """Return well-separated clusters of 50, and queries near their centres."""
    rng = np.random.default_rng(1)
    centres = rng.normal(size=(max(1, count // PER_CLUSTER), DIMENSIONS))
    vectors = _around(rng, centres, count, noise=0.7)
    return vectors, _around(rng, centres, queries, noise=0.7)


def uniform(count: int, queries: int) -> tuple[Vectors, Vectors]:
    """Return vectors without any structure, and queries like them: the worst case of a graph."""
    rng = np.random.default_rng(2)
    return _unit(rng.normal(size=(count, DIMENSIONS))), _unit(rng.normal(size=(queries, DIMENSIONS)))


def clip_like(count: int, queries: int) -> tuple[Vectors, Vectors]:
    """Return image vectors in a narrow cone, and text queries in another, far from all images.

    Liang et al. 2022 (NeurIPS, "Mind the Gap") describe both. Images have topics whose variance falls off like that of
    CLIP's principal components; two images have a cosine of about 0.5, a text and its best image of about 0.3.
    """
    rng = np.random.default_rng(3)
    spectrum = np.arange(1, DIMENSIONS + 1) ** -0.6
    spectrum /= np.linalg.norm(spectrum)
    image_mean, text_mean = _unit(rng.normal(size=(2, DIMENSIONS))).astype(np.float32)
    topics = rng.normal(size=(max(1, count // PER_CLUSTER), DIMENSIONS)) * spectrum
    images = _around(rng, topics, count, noise=0.6 * spectrum, mean=image_mean)
    texts = _around(rng, topics, queries, noise=0.6 * spectrum, mean=2.0 * text_mean)
    return images, texts


def offline_like(count: int, queries: int) -> tuple[Vectors, Vectors]:
    """Return image vectors as the offline model makes them, mixtures of its class vectors, and captions' vectors."""
    classes, texts = asyncio.run(_offline_model())
    rng = np.random.default_rng(4)
    vectors = np.empty((count, classes.shape[1]), np.float16)
    similar = classes @ classes.T
    for start in range(0, count, 10_000):
        # The network is more or less sure of one class, and considers similar ones.
        main = rng.integers(0, len(classes), min(10_000, count - start))
        logits = similar[main] * rng.uniform(2, 14, (len(main), 1)) + rng.normal(size=(len(main), len(classes)))
        probabilities = np.exp(logits)
        vectors[start : start + len(main)] = _unit(probabilities @ classes / probabilities.sum(axis=1, keepdims=True))
    return vectors, texts[rng.permutation(len(texts))[:queries]]


KINDS: dict[str, Callable[[int, int], tuple[Vectors, Vectors]]] = {
    "clustered": clustered,
    "uniform": uniform,
    "CLIP-like": clip_like,
    "offline": offline_like,
}


def _around(
    rng: np.random.Generator,
    centres: NDArray[np.float64],
    count: int,
    *,
    noise: float | NDArray[np.float64],
    mean: NDArray[np.float32] | float = 0.0,
) -> Vectors:
    """Return vectors around random centres, moved by *mean*."""
    chosen = centres[rng.integers(0, len(centres), count)]
    return _unit(chosen + rng.normal(size=chosen.shape) * noise + mean)


def _unit(vectors: NDArray[np.floating]) -> Vectors:
    return (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float16)


async def _offline_model() -> tuple[NDArray[np.float32], Vectors]:
    """Return the class vectors and the vectors of some hundred captions."""
    from shared.embedders.offline import embedder as offline
    from shared.images.worker_pool import DecoderPool

    pool = DecoderPool(1)
    model = offline.OfflineEmbedder(Path(platformdirs.user_data_dir("image-browser")) / "models", pool)
    captions = (Path(offline.__file__).parent / "contexts.txt").read_text().splitlines()
    texts = await model.embed_texts([line.partition(": ")[2] for line in captions])
    classes = await model.reference_vectors()
    await model.close()
    await pool.close()
    return classes, texts.astype(np.float16)
