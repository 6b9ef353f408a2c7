"""Facets: the cameras, folders, types and dates of a collection."""

from shared.db.pool import Connection
from shared.models import Collection, Facets
from shared.sql import execute

MAX_VALUES = 200  # of each facet, the most frequent


async def read(conn: Connection, collection: Collection, folder: str | None) -> Facets:
    """Return the collection's facets, with the folders directly below *folder*.

    Each statement scans a whole index, which takes some tenths of a second for a million images.
    """
    statement = """
        SELECT min(camera), count(*) FROM {images} WHERE camera IS NOT NULL
         GROUP BY lower(camera) ORDER BY count(*) DESC, 1 LIMIT %s
    """
    cameras = await execute(conn, collection, statement, [MAX_VALUES])
    prefix = f"{folder}/" if folder else ""
    statement = """
        SELECT %(prefix)s || split_part(substr(r2_key, length(%(prefix)s) + 1), '/', 1), count(*) FROM {images}
         WHERE (%(prefix)s = '' OR r2_key > %(prefix)s AND r2_key < left(%(prefix)s, -1) || '0')
           AND strpos(substr(r2_key, length(%(prefix)s) + 1), '/') > 0
         GROUP BY 1 ORDER BY count(*) DESC, 1 LIMIT %(max)s
    """
    folders = await execute(conn, collection, statement, {"prefix": prefix, "max": MAX_VALUES})
    statement = "SELECT content_type, count(*) FROM {images} GROUP BY 1 ORDER BY count(*) DESC, 1 LIMIT %s"
    types = await execute(conn, collection, statement, [MAX_VALUES])
    taken = await execute(conn, collection, "SELECT min(taken_local), max(taken_local) FROM {images}")
    first, last = await taken.fetchone() or (None, None)
    return Facets(
        cameras=dict(await cameras.fetchall()),
        folders=dict(await folders.fetchall()),
        types=dict(await types.fetchall()),
        first_taken=first,
        last_taken=last,
    )
