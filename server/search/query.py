"""Queries: weighted sums of the vectors of their terms."""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from server.problem import Problem
from server.search.query_images import QueryImages
from server.search.terms import Term, normalise
from server.search.text_vectors import TextVectors, from_stored
from shared.db.pool import Connection, Database
from shared.embedders.base import Vector
from shared.models import Collection
from shared.sql import images, next_embeddings, vector_search

# A sum shorter than this share of its weights is rounding error: vectors are stored in half precision.
MIN_LENGTH = 0.01


@dataclass(frozen=True)
class Mixture:
    """Total weights of a query's texts and images, divided by the length of the weighted sum.

    Positive and negative weights are totalled separately. A query of one text has ``words=1`` and 0 elsewhere.
    """

    words: float = 0.0
    images: float = 0.0
    words_against: float = 0.0
    images_against: float = 0.0

    @property
    def image_share(self) -> float:
        """The share of images in the query, 0 to 1."""
        images = self.images + self.images_against
        return images / (images + self.words + self.words_against)


@dataclass(frozen=True, eq=False)
class Query:
    """A query: a unit vector, and the words to find in names and captions too.

    *scope* identifies the query in cursors. *exclude* are images not to be shown.
    """

    vector: Vector
    scope: str
    words: str | None = None
    exclude: frozenset[int] = frozenset()
    mixture: Mixture = Mixture(words=1.0)


@dataclass(frozen=True)
class QueryBuilder:
    """Builder of queries from terms."""

    database: Database
    text_vectors: TextVectors
    query_images: QueryImages

    async def build(self, collection: Collection, terms: Sequence[Term], *, name: str) -> Query:
        """Return the query for *terms*, which the request calls *name*.

        Raises a 404 for an unknown image or handle, a 400 for terms that cancel each other out.
        """
        vectors = await asyncio.gather(
            *(self._vector(collection, term, name=f"{name}[{index}]") for index, term in enumerate(terms))
        )
        total = weighted_sum([term.weight for term in terms], vectors)
        if total is None:
            raise Problem(400, f"{name} cancel each other out, so nothing is left to search for: change their weights")
        vector, length = total
        is_text = len(terms) == 1 and terms[0].kind == "text" and terms[0].weight > 0
        return Query(
            vector,
            _scope(terms),
            words=terms[0].value if is_text else None,
            exclude=frozenset(int(term.value) for term in terms if term.kind == "image"),
            mixture=_mixture(terms, length),
        )

    async def _vector(self, collection: Collection, term: Term, *, name: str) -> Vector:
        match term.kind:
            case "text":
                return await self.text_vectors.get(collection, term.value)
            case "image":
                return await self._image_vector(collection, int(term.value), name=name)
            case "query_image":
                return await self.query_images.by_handle(collection, term.value, name=f"{name}.query_image")
            case "image_url":
                return await self.query_images.by_url(collection, term.value, name=f"{name}.image_url")

    async def _image_vector(self, collection: Collection, image_id: int, *, name: str) -> Vector:
        stored = await self.database.read(_read_vector, collection, image_id)
        if stored is not None:
            return from_stored(stored)
        if await self.database.run(images.get, collection, image_id) is None:
            raise Problem(404, f"{name}.image_id is {image_id}: no such image in {collection.bucket!r}")
        raise Problem(409, f"{name}.image_id is {image_id}: this image is not embedded yet, try again later")


def weighted_sum(weights: Sequence[float], vectors: Sequence[Vector]) -> tuple[Vector, float] | None:
    """Return the weighted sum of unit vectors, normalised, and its length before; None if (nearly) nothing is left.

    This is how CLIP's vectors are combined: prompts by their mean (Radford et al. 2021, arXiv:2103.00020, section
    3.1.4), an image and a text by their sum (the baseline of Baldrati et al. 2022, CVPR, "Effective conditioned and
    composed image retrieval combining CLIP-based features"). docs/relevance.md compares alternatives.
    """
    total = np.asarray(weights) @ np.asarray(vectors, np.float64)
    length = float(np.linalg.norm(total))
    if length < MIN_LENGTH * sum(map(abs, weights)):
        return None
    return (total / length).astype(np.float32), length


async def _read_vector(conn: Connection, collection: Collection, image_id: int) -> list[float] | None:
    async with conn.transaction():
        # The vector is about to be compared with others of this model.
        await next_embeddings.check_model(conn, collection)
        return await vector_search.vector_of(conn, collection, image_id)


def _mixture(terms: Sequence[Term], length: float) -> Mixture:
    words = [term.weight / length for term in terms if term.kind == "text"]
    pictures = [term.weight / length for term in terms if term.kind != "text"]
    return Mixture(
        words=sum(w for w in words if w > 0),
        images=sum(w for w in pictures if w > 0),
        words_against=-sum(w for w in words if w < 0),
        images_against=-sum(w for w in pictures if w < 0),
    )


def _scope(terms: Sequence[Term]) -> str:
    """Return a text that is equal for equal queries from any route."""
    if len(terms) == 1 and terms[0].weight > 0:
        terms = [Term(terms[0].kind, terms[0].value)]
    values = [normalise(term.value) if term.kind == "text" else term.value for term in terms]
    return "&".join(f"{term.weight}*{term.kind}:{value}" for term, value in zip(terms, values, strict=True))
