"""What filters have to choose from: the cameras, folders, types and times that a collection holds."""

from typing import Any

from psycopg import AsyncConnection

from shared.models import Collection, Facets
from shared.sql import for_collection

MOST = 200  # values of each kind, those of the most images


async def read(conn: AsyncConnection[Any], collection: Collection, folder: str | None) -> Facets:
    """Return the collection's cameras, types and times, and the folders right below *folder*, with their counts.

    Each statement reads one index, all of it: some tenths of a second in a collection of a million.
    """
    cameras = await conn.execute(
        for_collection(
            """
            SELECT min(camera), count(*) FROM {images} WHERE camera IS NOT NULL
             GROUP BY lower(camera) ORDER BY count(*) DESC, 1 LIMIT %s
            """,
            collection,
        ),
        [MOST],
    )
    above = f"{folder}/" if folder else ""
    folders = await conn.execute(
        for_collection(
            """
            SELECT %(above)s || split_part(substr(r2_key, length(%(above)s) + 1), '/', 1), count(*) FROM {images}
             WHERE (%(above)s = '' OR r2_key > %(above)s AND r2_key < left(%(above)s, -1) || '0')
               AND strpos(substr(r2_key, length(%(above)s) + 1), '/') > 0
             GROUP BY 1 ORDER BY count(*) DESC, 1 LIMIT %(most)s
            """,
            collection,
        ),
        {"above": above, "most": MOST},
    )
    types = await conn.execute(
        for_collection(
            "SELECT content_type, count(*) FROM {images} GROUP BY 1 ORDER BY count(*) DESC, 1 LIMIT %s", collection
        ),
        [MOST],
    )
    taken = await conn.execute(for_collection("SELECT min(taken_at), max(taken_at) FROM {images}", collection))
    first, last = await taken.fetchone() or (None, None)
    return Facets(
        cameras=dict(await cameras.fetchall()),
        folders=dict(await folders.fetchall()),
        types=dict(await types.fetchall()),
        first_taken=first,
        last_taken=last,
    )
