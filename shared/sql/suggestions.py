"""Values that begin with what is typed: keywords and file names."""

from shared.db.pool import Connection
from shared.models import Collection
from shared.sql import execute

MAX_KEYWORDS = 5000  # the most frequent
_SCANNED = 50  # names


async def keywords(conn: Connection, collection: Collection) -> dict[str, tuple[str, int]]:
    """Return the keywords of the collection, most frequent first: folded, as written, and the number of images.

    It reads all images, which takes a few tenths of a second for 100,000.
    """
    statement = """
        SELECT folded(written), min(written), sum(count)::bigint
          FROM (SELECT keyword AS written, count(*) AS count FROM {images}, unnest(keywords) AS keyword
                 GROUP BY 1) AS counted
         GROUP BY 1 ORDER BY 3 DESC, 1 LIMIT %s
    """
    found = await execute(conn, collection, statement, [MAX_KEYWORDS])
    return {folded: (written, count) for folded, written, count in await found.fetchall()}


async def names(conn: Connection, collection: Collection, prefix: str, *, limit: int) -> dict[str, int]:
    """Return file names without extension that begin with *prefix*, in any case, with their numbers of images.

    It scans a few entries of the index, in the order of the database's collation.
    """
    statement = """
        SELECT min(regexp_replace(r2_key, '^.*/|\\.[^./]*$', '', 'g')), count(*)
          FROM (SELECT r2_key, image_stem(r2_key) AS stem FROM {images}
                 WHERE image_stem(r2_key) >= folded(%(prefix)s)
                 ORDER BY image_stem(r2_key) LIMIT %(scanned)s) AS following
         WHERE starts_with(stem, folded(%(prefix)s))
         GROUP BY stem ORDER BY stem LIMIT %(limit)s
    """
    parameters = {"prefix": prefix, "scanned": _SCANNED, "limit": limit}
    return dict(await (await execute(conn, collection, statement, parameters)).fetchall())
