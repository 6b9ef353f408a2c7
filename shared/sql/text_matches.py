"""Images whose name, folders, keywords or caption match the words of a query."""

from collections.abc import Iterable, Sequence

from shared.db.pool import Connection
from shared.models import Collection, Filters, TextMatch
from shared.sql import execute, fetch_all, vector_text
from shared.sql.filters import EVERYTHING, condition

# Words that more images contain do not distinguish them, and are ignored.
MAX_MATCHES = 1000

# The words are the name of {images} i, with or without folders and extension, in any case.
_IS_NAME = """
    lower(normalize(%(words)s)) IN (image_stem(i.r2_key), lower(normalize(regexp_replace(i.r2_key, '^.*/', ''))),
                                    lower(normalize(i.r2_key)))"""


async def find(
    conn: Connection,
    collection: Collection,
    words: str,
    filters: Filters = EVERYTHING,
    *,
    exclude: Iterable[int] = (),
) -> list[int]:
    """Return the ids of images named *words*, and of images that contain all the words.

    Of the former at most MAX_MATCHES; the latter are left out if they are more.
    """
    where, values = condition(filters)
    statement = f"""
        SELECT ARRAY(SELECT i.id FROM {{images}} AS i
                      WHERE image_stem(i.r2_key) IN (lower(normalize(%(words)s)), image_stem(%(words)s))
                        AND {_IS_NAME} AND i.id <> ALL (%(exclude)s::bigint[]) AND {where}
                      LIMIT %(max)s),
               ARRAY(SELECT i.id FROM {{images}} AS i
                      WHERE image_words(i.r2_key, i.keywords, i.caption) @@ words_query(%(words)s)
                        AND i.id <> ALL (%(exclude)s::bigint[]) AND {where}
                      LIMIT %(max)s + 1)
    """  # noqa: S608 - constants
    cur = await execute(
        conn, collection, statement, values | {"words": words, "exclude": list(exclude), "max": MAX_MATCHES}
    )
    row = await cur.fetchone()
    assert row is not None
    by_name, by_words = row
    return sorted({*by_name, *(by_words if len(by_words) <= MAX_MATCHES else ())})


async def score(
    conn: Connection, collection: Collection, words: str, query: Sequence[float], ids: Sequence[int]
) -> list[TextMatch]:
    """Return how well *words* match the images *ids*, and how near the images are to *query*."""
    statement = f"""
        SELECT i.id, {_IS_NAME} AS exact_name,
               image_words(regexp_replace(i.r2_key, '^.*/', ''), i.keywords, i.caption)
                   @@ words_query(%(words)s) AS without_folders,
               -(e.embedding <#> %(query)s::halfvec) AS score
          FROM {{images}} AS i JOIN {{embeddings}} AS e USING (id)
         WHERE i.id = ANY (%(ids)s)
         ORDER BY i.id
    """  # noqa: S608 - constants
    parameters = {"words": words, "query": vector_text(query), "ids": ids}
    return await fetch_all(conn, collection, TextMatch, statement, parameters)
