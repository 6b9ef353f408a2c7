"""The lists of images that pages and API show alike: recent ones, what a text finds, an image's neighbours."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from server.context import AppContext
from server.schemas import responses
from server.schemas.errors import Problem
from server.schemas.responses import ImageItem
from server.search import query_builder, relevance
from server.search.query import Query, Term
from server.search.ranking import Search
from shared.db.pool import Connection
from shared.models import Collection, Filters, Image
from shared.sql import images
from shared.sql.filters import EVERYTHING


@dataclass(frozen=True)
class Page:
    """A page of a list, and the cursor of the next one; None at the end."""

    images: Sequence[ImageItem]
    next_cursor: str | None

    def as_json(self) -> dict[str, Any]:
        return {"images": self.images, "next_cursor": self.next_cursor}


async def recent(
    app: AppContext, collection: Collection, filters: Filters = EVERYTHING, *, limit: int, cursor: str | None
) -> Page:
    """Return images, newest first, embedded or not."""
    cursors = await app.cursors()
    scope = f"recent {collection.bucket} {filters}"
    position = cursors.read(scope, cursor)
    before = (datetime.fromisoformat(position[0]), int(position[1])) if position else None

    async def find(conn: Connection) -> tuple[list[Image], Any]:
        found = await images.recent(conn, collection, filters, limit=limit + 1, before=before)
        page = found[:limit]
        return page, [page[-1].created_at.isoformat(), page[-1].id] if len(found) > limit else None

    page, following = await app.kept.read(("recent", collection, filters, limit, before), find)
    store = app.store(collection.bucket)
    next_cursor = cursors.write(scope, following) if following else None
    return Page([responses.image_item(each, store) for each in page], next_cursor)


async def similar_query(app: AppContext, collection: Collection, image: Image) -> Query | None:
    """Return the query for the visual neighbours of *image*, itself left out; None before it has its vector."""
    if image.status != "embedded":
        return None
    return await query_builder.query_of(app, collection, [Term("image", str(image.id))])


async def the_image(app: AppContext, collection: Collection, image_id: int) -> Image:
    """Return one image; raise a 404 that names it."""
    found = await app.database.run(images.get, collection=collection, image_id=image_id)
    if found is None:
        raise Problem(404, f"there is no image {image_id} in the collection {collection.bucket!r}")
    return found


async def ranked(
    app: AppContext,
    collection: Collection,
    query: Query | None,
    filters: Filters = EVERYTHING,
    *,
    strict: bool = False,
    limit: int,
    cursor: str | None,
) -> Page:
    """Return what *query* finds, best first; with *strict* without weak matches. No query finds nothing."""
    if query is None:
        return Page([], None)
    cursors = await app.cursors()
    scope = f"{collection.bucket} {collection.model} {query.scope} {filters} {strict}"
    threshold = await relevance.threshold(app, collection, query)
    embedded = await app.known.embedded(collection)
    sought = Search(collection, query, filters, threshold, strict, embedded)
    hits, following = await sought.page(app.kept, cursors.read(scope, cursor), cursor, limit=limit)
    store = app.store(collection.bucket)
    next_cursor = cursors.write(scope, following) if following else None
    return Page([responses.hit_item(hit, store, threshold) for hit in hits], next_cursor)
