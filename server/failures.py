"""Failed images and files of a collection, and their retry."""

from dataclasses import dataclass

from server.context import AppContext
from shared.db.pool import Connection
from shared.models import Collection, Failure, Image
from shared.sql import images, next_embeddings, queue

MAX_LISTED = 200


@dataclass(frozen=True)
class FailedItem:
    """A failure, and its image; a file that could not become an image has none."""

    failure: Failure
    image: Image | None


async def read(collection: Collection, context: AppContext) -> list[FailedItem]:
    """Return the first failures by key, at most MAX_LISTED."""
    return await context.database.read(_read, collection)


async def retry(collection: Collection, context: AppContext, key: str | None) -> int:
    """Queue the failed image *key* again, or all with None, for every model of the collection; return their number."""
    return await context.database.run(_retry, collection, key)


async def _read(conn: Connection, collection: Collection) -> list[FailedItem]:
    failures = await queue.failures(conn, collection, limit=MAX_LISTED)
    ids = [failure.image_id for failure in failures if failure.image_id is not None]
    found = {image.id: image for image in await images.get_many(conn, collection, ids)}
    return [FailedItem(failure, found.get(failure.image_id or 0)) for failure in failures]


async def _retry(conn: Connection, collection: Collection, key: str | None) -> int:
    count = await queue.retry(conn, collection, key=key)
    if following := await next_embeddings.find(conn, collection.bucket):
        count += await queue.retry(conn, next_embeddings.with_next(collection, following), key=key)
    return count
