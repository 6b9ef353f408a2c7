"""The lists of images that pages and API show alike: recent ones, what a text finds, an image's neighbours."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any
from uuid import UUID, uuid4

import numpy as np

from server import presenting
from server.presenting import ImageAnswer
from server.problems import Problem
from server.query import Query
from server.services import Services
from shared.db.pool import Connection
from shared.model import Collection, Filters, Hit, Image
from shared.sql import images, reembed, search, stats
from shared.sql.filters import EVERYTHING

# Up to here a walk compares the query with all vectors, exactly, and goes to the end.
EXACT_UP_TO = 20_000
# Beyond it the ranking is made once over the index, this long.
DEPTH = 2_000
# and kept this long.
WALK_LIFETIME = timedelta(hours=1)


@dataclass(frozen=True)
class Page:
    """A page of a list, and the cursor of the next one; None at the end."""

    images: Sequence[ImageAnswer]
    next_cursor: str | None

    def as_json(self) -> dict[str, Any]:
        return {"images": self.images, "next_cursor": self.next_cursor}


async def recent(
    app: Services, collection: Collection, filters: Filters = EVERYTHING, *, limit: int, cursor: str | None
) -> Page:
    """Return images, newest first, embedded or not."""
    cursors = await app.cursors()
    scope = f"recent {collection.bucket} {filters}"
    position = cursors.read(scope, cursor)
    before = (datetime.fromisoformat(position[0]), int(position[1])) if position else None
    read = partial(images.recent, collection=collection, filters=filters, limit=limit + 1, before=before)
    found = await app.database.run(read)
    page = found[:limit]
    following = cursors.write(scope, [page[-1].created_at.isoformat(), page[-1].id]) if len(found) > limit else None
    store = app.store(collection.bucket)
    return Page([presenting.image(each, store) for each in page], following)


async def text_query(app: Services, collection: Collection, text: str) -> Query:
    """Return the query for the images nearest to *text*."""
    return Query(await app.queries(collection).of(text), f"text {text}", words=text)


async def similar_query(app: Services, collection: Collection, image: Image) -> Query | None:
    """Return the query for the visual neighbours of *image*, itself left out; None before it has its vector."""
    stored = await app.database.run(partial(search.vector_of, collection=collection, image_id=image.id))
    if stored is None:
        return None
    return Query(np.asarray(stored, np.float32), f"similar {image.id}", leave_out=frozenset({image.id}))


async def the_image(app: Services, collection: Collection, image_id: int) -> Image:
    """Return one image; raise a 404 that names it."""
    found = await app.database.run(partial(images.get, collection=collection, image_id=image_id))
    if found is None:
        raise Problem(404, f"there is no image {image_id} in the collection {collection.bucket!r}")
    return found


async def ranked(
    app: Services,
    collection: Collection,
    query: Query | None,
    filters: Filters = EVERYTHING,
    *,
    strict: bool = False,
    limit: int,
    cursor: str | None,
) -> Page:
    """Return what is nearest to *query*, nearest first; with *strict* without weak matches. No query finds nothing."""
    if query is None:
        return Page([], None)
    cursors = await app.cursors()
    scope = f"{collection.bucket} {collection.model} {query.scope} {filters} {strict}"
    position = cursors.read(scope, cursor)
    vector, leave_out = query.vector.tolist(), query.leave_out

    async def page(conn: Connection) -> tuple[list[Hit], Any]:
        await reembed.check_model(conn, collection)
        if position and position[0] == "walk":
            return await _walk_page(conn, collection, UUID(position[1]), after=position[2], limit=limit)
        embedded = (await stats.counts(conn, collection)).embedded
        # A walk that began with exact comparison goes on so, also when the collection grows meanwhile.
        if position or embedded <= EXACT_UP_TO:
            after = (float(position[1]), int(position[2])) if position else None
            nearest = await search.exact(
                conn, collection, vector, filters, limit=limit + 1, after=after, leave_out=leave_out
            )
            last = nearest[limit - 1] if len(nearest) > limit else None
            following = ["exact", last[1], last[0].image.id] if last else None
            return [hit for hit, _ in nearest[:limit]], following
        ids, scores = await search.ranking(conn, collection, vector, filters, depth=DEPTH, leave_out=leave_out)
        walk, now = uuid4(), datetime.now(UTC)
        await search.forget_walks(conn, before=now - WALK_LIFETIME)
        await search.save_walk(conn, collection, walk, ids, scores, now=now)
        return await _walk_page(conn, collection, walk, after=0, limit=limit)

    hits, following = await app.database.run(page)
    store = app.store(collection.bucket)
    next_cursor = cursors.write(scope, following) if following else None
    return Page([presenting.hit(hit, store) for hit in hits], next_cursor)


async def _walk_page(
    conn: Connection, collection: Collection, walk: UUID, *, after: int, limit: int
) -> tuple[list[Hit], Any]:
    found = await search.walk_page(conn, collection, walk, after=after, limit=limit)
    if found is None:
        raise Problem(400, "cursor is too old: its ranking is no longer kept; search again")
    hits, last = found
    return hits, ["walk", str(walk), last] if last else None
