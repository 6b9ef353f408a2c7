"""Pictures that are searched for: their vectors, made once and kept for a while under a handle, without the pictures.

A handle is random, so that nobody comes by one who was not given it, and belongs to one model. The same content has the
same handle, on every server, and costs one call of the model.
"""

import hashlib
import secrets
from datetime import UTC, datetime, timedelta

from server import metrics
from server.context import AppContext
from server.schemas.errors import Problem
from server.search.query import from_database
from server.url_fetcher import FetchRefused
from shared.db.pool import Connection
from shared.embedders.base import ImageInput, Vector
from shared.errors import ImageRefused
from shared.models import Collection
from shared.sql import query_images
from shared.sql.query_images import QueryImage
from shared.timing import timed

LIFETIME = timedelta(days=7)  # of a handle, after its picture was given last
KEPT = 50_000  # pictures at most; beyond it those go first that expire first
FETCHED_AGAIN_AFTER = timedelta(hours=1)


async def by_handle(app: AppContext, collection: Collection, handle: str, *, name: str) -> Vector:
    """Return the vector of the picture with this handle; *name* is what the request calls it, in a 404."""
    found = await app.database.run(query_images.find, handle=handle, now=datetime.now(UTC))
    if found is None:
        raise Problem(404, f"{name} is unknown, or has expired: send the picture to /api/query-images again")
    if found.model != collection.model:
        raise Problem(
            404,
            f"{name} is for another model than that of the collection {collection.bucket!r}: send the picture to"
            f" /api/query-images?bucket={collection.bucket}",
        )
    return from_database(found.embedding)


async def by_address(app: AppContext, collection: Collection, address: str, *, name: str) -> Vector:
    """Return the vector of the picture at *address*, fetched unless it was a short while ago."""
    now = datetime.now(UTC)
    known = await app.database.run(
        query_images.at_address,
        model=collection.model,
        address_digest=_digest(address),
        fetched_after=now - FETCHED_AGAIN_AFTER,
        now=now,
    )
    if known is None:
        async with app.pictures_at_once:
            content = await fetched(app, address, name=name)
            known = await of_content(app, collection, content, name=name, address=address)
    return from_database(known.embedding)


async def fetched(app: AppContext, address: str, *, name: str) -> bytes:
    """Return the image at *address*; raise a 400 that says why there is none for us."""
    try:
        return await app.fetcher.image(address)
    except FetchRefused as exc:
        shown = address if len(address) <= 100 else f"{address[:100]}…"
        raise Problem(400, f"{name} is {shown!r}: {exc}") from exc


async def of_content(
    app: AppContext, collection: Collection, content: bytes, *, name: str, address: str = ""
) -> QueryImage:
    """Return the picture with this content, its vector made by the collection's model if it is not known.

    *address* is where it was fetched from, if it was. Raises a 400 for what is no image.
    """
    embedder = app.embedder(collection)
    digest = hashlib.sha256(content).digest()
    now = datetime.now(UTC)
    expires_at = now + LIFETIME
    known = await app.database.run(
        query_images.renew, model=embedder.name, digest=digest, now=now, expires_at=expires_at
    )
    vector = None if known else await _embedded(app, collection, ImageInput(content, address), name=name)

    async def keep(conn: Connection) -> QueryImage:
        kept = known
        if vector is not None:
            await query_images.prune(conn, now=now, keep=KEPT)
            kept = await query_images.save(
                conn,
                embedder.name,
                digest,
                vector.tolist(),
                handle=secrets.token_urlsafe(16),
                expires_at=expires_at,
            )
        assert kept is not None
        if address:
            await query_images.save_address(conn, embedder.name, _digest(address), handle=kept.handle, now=now)
        return kept

    return await app.database.run(keep)


async def _embedded(app: AppContext, collection: Collection, image: ImageInput, *, name: str) -> Vector:
    embedder = app.embedder(collection)
    if embedder.wants == "address" and not image.address:
        raise Problem(
            400,
            f"{name}: {embedder.name}, the model of the collection {collection.bucket!r}, fetches images itself: give"
            " the picture's address",
        )
    await app.spend(collection)
    with timed("model"), metrics.model_call(embedder.name):
        (outcome,) = await embedder.embed_images([image])
    if isinstance(outcome, ImageRefused):
        raise Problem(400, f"{name} cannot be used: {outcome}")
    return outcome


def _digest(address: str) -> bytes:
    return hashlib.sha256(address.encode()).digest()
