"""Protocol of the models that turn images and texts into vectors.

The adapters are ``replicate`` (CLIP over an API), ``clip`` (ONNX Runtime on this machine) and ``offline`` (a small
model from Python packages). The contract suite ``tests/contract/test_embedders.py`` runs on each.
"""

import asyncio
from collections.abc import Awaitable, Callable, Coroutine, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Protocol, TypeVar, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from shared.errors import ImageRefused, Reason
from shared.images import Examined, ModelInput

T = TypeVar("T")
Vector = NDArray[np.float32]


@dataclass(frozen=True)
class ImageInput:
    """An image for a model: the bytes of its file, or its address for a model that fetches images itself.

    ``prepared`` replaces both: the result of the model's ``examination``.
    """

    data: bytes = b""
    address: str = ""
    prepared: ModelInput | None = None


class Embedder(Protocol):
    """A model that maps images and texts into one vector space, in which inner products are cosines.

    ``name`` identifies the space; vectors under different names cannot be compared. ``batch_size`` is the best number
    of images per call of embed_images, ``input_kind`` the field of ImageInput that it reads. ``local`` means that calls
    need no service. ``price_per_image`` is an estimate in US dollars. ``notice`` is a sentence for users of the model.
    """

    name: str
    dimensions: int
    batch_size: int
    input_kind: Literal["data", "address"]
    local: bool
    price_per_image: float
    notice: str | None

    @property
    def examination(self) -> Callable[[Path, bool], Awaitable[Examined]] | None:
        """Examine a file with ``model_input`` set, with derivatives or not; None if the model cannot do so (yet)."""

    @property
    def calls(self) -> int:
        """The number of charged calls so far, including failed ones; each takes up to batch_size images."""

    async def embed_images(self, images: Sequence[ImageInput]) -> list[Vector | ImageRefused]:
        """Return the unit vector [dimensions] or the refusal of each image, in order.

        Raises ModelError if the model or its service fails; no image is to blame then.
        """

    async def embed_texts(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """Return the unit vectors [len(texts), dimensions]; texts that are too long are cut.

        Raises ModelError if the model or its service fails.
        """

    async def close(self) -> None:
        """Release connections, threads and memory."""


@runtime_checkable
class HasReferenceVectors(Embedder, Protocol):
    """A model with vectors of typical images, against which chance scores of a query can be measured."""

    async def reference_vectors(self) -> NDArray[np.float32]:
        """Return unit vectors [n, dimensions] that stand for images of all kinds."""


def unit_vector(values: Sequence[float] | NDArray[np.floating], *, dimensions: int) -> Vector:
    """Return *values* as a float32 vector of length 1, shape [dimensions].

    Raises ImageRefused(BAD_VECTOR) for another shape, a value that is not finite, or a zero vector, which PostgreSQL
    would accept and which would score 0 for every query.
    """
    vector = np.asarray(values, dtype=np.float64)
    if vector.shape != (dimensions,):
        raise ImageRefused(
            Reason.BAD_VECTOR, f"the model returned a vector of shape {vector.shape}, not ({dimensions},)"
        )
    if not np.isfinite(vector).all():
        raise ImageRefused(Reason.BAD_VECTOR, "the model returned a vector with values that are not finite")
    norm = float(np.linalg.norm(vector))
    if norm < 1e-12:
        raise ImageRefused(Reason.BAD_VECTOR, "the model returned a vector of zeros")
    return (vector / norm).astype(np.float32)


async def gather_all(tasks: Iterable[Coroutine[Any, Any, T]]) -> list[T]:
    """Return all results, refusals of images among them. Raise any other error once the last task has ended."""
    results = await asyncio.gather(*tasks, return_exceptions=True)
    for result in results:
        if isinstance(result, BaseException) and not isinstance(result, ImageRefused):
            raise result
    return results  # type: ignore[return-value]


async def agreement(
    embedder: Embedder,
    vector: Sequence[float] | NDArray[np.floating],
    *,
    image: bytes | None = None,
    text: str | None = None,
) -> float:
    """Return the cosine of *vector* and the vector that *embedder* computes for *image* or *text*.

    From 0.999 on, vectors computed elsewhere, such as by the same weights behind an API, can be compared with those of
    *embedder*. Preprocessing differs more often than weights do, so an image is the stricter test, but a text needs
    only the text tower. Returns 0 for a vector of other dimensions. Raises ImageRefused or
    ModelError.
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
