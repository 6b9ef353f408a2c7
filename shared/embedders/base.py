"""What turns images and texts into vectors: the protocol that the program sees, whatever model is behind it.

The adapters are ``replicate`` (CLIP over an API), ``clip`` (ONNX Runtime on this machine) and ``offline`` (a small
model that comes with Python packages). One contract suite, ``tests/contract/test_embedders.py``, runs on each.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from shared.errors import ImageRefused, Reason

Vector = NDArray[np.float32]


@dataclass(frozen=True)
class ImageInput:
    """One image for a model: the file's bytes, or an address for a model that fetches images itself."""

    data: bytes = b""
    address: str = ""


class Embedder(Protocol):
    """A model that puts images and texts into one space, where the inner product of two vectors is their cosine.

    ``name`` identifies the space: vectors of two names are never compared. ``batch_size`` is how many images one call
    of embed_images should be given, ``wants`` which field of an ImageInput it reads, ``local`` whether a call costs
    nothing but this machine's time. ``price_per_image`` is an estimate in US dollars, 0 where nothing is charged.
    ``notice`` is a sentence that people should read who use the model, or None.
    """

    name: str
    dimensions: int
    batch_size: int
    wants: Literal["data", "address"]
    local: bool
    price_per_image: float
    notice: str | None

    @property
    def calls(self) -> int:
        """How many calls were made that are charged for, failed tries included; one may take batch_size images."""

    async def embed_images(self, images: Sequence[ImageInput]) -> list[Vector | ImageRefused]:
        """Return for each image, in order, its unit-length vector [dimensions], or why the image is at fault.

        Raises ModelError when the model or its service is at fault: then nothing is known of any of the images.
        """

    async def embed_texts(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """Return the texts' unit-length vectors [len(texts), dimensions]; a text too long for the model is cut.

        Raises ModelError when the model or its service is at fault.
        """

    async def close(self) -> None:
        """Give back connections, threads and memory."""


@runtime_checkable
class HasBackground(Protocol):
    """A model that knows what queries score against images in general."""

    async def background(self) -> NDArray[np.float32]:
        """Return stand-ins for images that show anything at all, unit-length vectors [n, dimensions]."""


def unit_vector(values: Sequence[float] | NDArray[np.floating], *, dimensions: int) -> Vector:
    """Return *values* as a float32 vector of length 1, shape [dimensions].

    Raises ImageRefused(BAD_VECTOR) for a wrong number of dimensions, a value that is not finite, or a zero vector:
    PostgreSQL would take the last one, and it would answer every query with 0.
    """
    vector = np.asarray(values, dtype=np.float64)
    if vector.shape != (dimensions,):
        raise ImageRefused(Reason.BAD_VECTOR, f"the model gave a vector of shape {vector.shape}, not ({dimensions},)")
    if not np.isfinite(vector).all():
        raise ImageRefused(Reason.BAD_VECTOR, "the model gave a vector with values that are not finite")
    norm = float(np.linalg.norm(vector))
    if norm < 1e-12:
        raise ImageRefused(Reason.BAD_VECTOR, "the model gave a vector of zeros")
    return (vector / norm).astype(np.float32)
