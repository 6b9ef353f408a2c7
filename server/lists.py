"""The lists of images that pages and API show alike: recent ones, what a text finds, an image's neighbours."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any
from uuid import UUID, uuid4

from server import presenting
from server.presenting import ImageAnswer
from server.problems import Problem
from server.services import Services
from shared.db.pool import Connection
from shared.model import Collection, Hit, Image
from shared.sql import images, search, stats

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


async def recent(app: Services, collection: Collection, *, limit: int, cursor: str | None) -> Page:
    """Return images, newest first, embedded or not."""
    cursors = await app.cursors()
    scope = f"recent {collection.bucket}"
    position = cursors.read(scope, cursor)
    before = (datetime.fromisoformat(position[0]), int(position[1])) if position else None
    found = await app.database.run(partial(images.recent, collection=collection, limit=limit + 1, before=before))
    page = found[:limit]
    following = cursors.write(scope, [page[-1].created_at.isoformat(), page[-1].id]) if len(found) > limit else None
    store = app.store(collection.bucket)
    return Page([presenting.image(each, store) for each in page], following)


async def found_by_text(app: Services, collection: Collection, text: str, *, limit: int, cursor: str | None) -> Page:
    """Return the images nearest to *text*, nearest first."""
    vector = await app.queries(collection).of(text)
    return await _nearest(app, collection, vector.tolist(), scope=f"text {text}", limit=limit, cursor=cursor)


async def similar(app: Services, collection: Collection, image: Image, *, limit: int, cursor: str | None) -> Page:
    """Return the visual neighbours of *image*, itself left out; none before it has its vector."""
    vector = await app.database.run(partial(search.vector_of, collection=collection, image_id=image.id))
    if vector is None:
        return Page([], None)
    return await _nearest(
        app, collection, vector, scope=f"similar {image.id}", limit=limit, cursor=cursor, leave_out=image.id
    )


async def the_image(app: Services, collection: Collection, image_id: int) -> Image:
    """Return one image; raise a 404 that names it."""
    found = await app.database.run(partial(images.get, collection=collection, image_id=image_id))
    if found is None:
        raise Problem(404, f"there is no image {image_id} in the collection {collection.bucket!r}")
    return found


async def _nearest(
    app: Services,
    collection: Collection,
    vector: list[float],
    *,
    scope: str,
    limit: int,
    cursor: str | None,
    leave_out: int | None = None,
) -> Page:
    cursors = await app.cursors()
    scope = f"{collection.bucket} {collection.model} {scope}"
    position = cursors.read(scope, cursor)

    async def page(conn: Connection) -> tuple[list[Hit], Any]:
        if position and position[0] == "walk":
            return await _walk_page(conn, collection, UUID(position[1]), after=position[2], limit=limit)
        embedded = (await stats.counts(conn, collection)).embedded
        # A walk that began with exact comparison goes on so, also when the collection grows meanwhile.
        if position or embedded <= EXACT_UP_TO:
            after = (float(position[1]), int(position[2])) if position else None
            ranked = await search.exact(conn, collection, vector, limit=limit + 1, after=after, leave_out=leave_out)
            last = ranked[limit - 1] if len(ranked) > limit else None
            following = ["exact", last[1], last[0].image.id] if last else None
            return [hit for hit, _ in ranked[:limit]], following
        ids, scores = await search.ranking(conn, collection, vector, depth=DEPTH, leave_out=leave_out)
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
