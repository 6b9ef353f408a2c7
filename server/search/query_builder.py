"""Terms to the query that they make together: each becomes a vector, and the vectors are summed."""

import asyncio
import hashlib
from collections.abc import Sequence

from server.context import AppContext
from server.schemas.errors import Problem
from server.search import image_queries
from server.search.query import Mixture, Query, Term, from_database, normalised, summed
from shared.db.pool import Connection
from shared.embedders.base import Vector
from shared.models import Collection
from shared.sql import images, next_embeddings, vector_search

LONGEST_SCOPE = 200  # characters; it goes into every cursor


async def query_of(app: AppContext, collection: Collection, terms: Sequence[Term], *, name: str = "terms") -> Query:
    """Return the query that *terms* make; *name* is what the request calls them.

    Raises a 404 for images and handles that are not there, a 400 for a sum of which nothing is left.
    """
    vectors = await asyncio.gather(
        *(_vector(app, collection, term, name=f"{name}[{place}]") for place, term in enumerate(terms))
    )
    sum_and_length = summed([(term.weight, vector) for term, vector in zip(terms, vectors, strict=True)])
    if sum_and_length is None:
        raise Problem(400, f"{name} cancel each other out, so that nothing is left to search for: change their weights")
    vector, length = sum_and_length
    return Query(
        vector,
        _scope(terms),
        words=terms[0].value if len(terms) == 1 and terms[0].kind == "text" and terms[0].weight > 0 else None,
        leave_out=frozenset(int(term.value) for term in terms if term.kind == "image"),
        mixture=_mixture(terms, length),
    )


def _mixture(terms: Sequence[Term], length: float) -> Mixture:
    words = [term.weight / length for term in terms if term.kind == "text"]
    images = [term.weight / length for term in terms if term.kind != "text"]
    return Mixture(
        words=sum(w for w in words if w > 0),
        images=sum(w for w in images if w > 0),
        words_against=-sum(w for w in words if w < 0),
        images_against=-sum(w for w in images if w < 0),
    )


def _scope(terms: Sequence[Term]) -> str:
    """Return one text for what is asked: equal for requests that ask the same, by whatever route."""
    if len(terms) == 1 and terms[0].weight > 0:
        terms = [Term(terms[0].kind, terms[0].value)]
    values = [normalised(term.value) if term.kind == "text" else term.value for term in terms]
    written = "&".join(f"{t.weight}*{t.kind}:{value}" for t, value in zip(terms, values, strict=True))
    return written if len(written) <= LONGEST_SCOPE else hashlib.sha256(written.encode()).hexdigest()


async def _vector(app: AppContext, collection: Collection, term: Term, *, name: str) -> Vector:
    match term.kind:
        case "text":
            return await app.queries(collection).of(term.value)
        case "image":
            return await _of_image(app, collection, int(term.value), name=name)
        case "query_image":
            return await image_queries.by_handle(app, collection, term.value, name=f"{name}.query_image")
        case "image_url":
            return await image_queries.by_address(app, collection, term.value, name=f"{name}.image_url")


async def _of_image(app: AppContext, collection: Collection, image_id: int, *, name: str) -> Vector:
    async def read(conn: Connection) -> list[float] | None:
        async with conn.transaction():
            # What follows compares it with other vectors of the model.
            await next_embeddings.check_model(conn, collection)
            return await vector_search.vector_of(conn, collection, image_id)

    stored = await app.database.read(read)
    if stored is not None:
        return from_database(stored)
    if await app.database.run(images.get, collection=collection, image_id=image_id) is None:
        raise Problem(404, f"{name}.image_id is {image_id}: there is no such image in {collection.bucket!r}")
    raise Problem(409, f"{name}.image_id is {image_id}: this image has no vector yet, only browsing shows it")
