"""Images that are called like a query: by name, folder, keywords or caption."""

from collections.abc import Iterable, Sequence
from typing import Any

from psycopg import AsyncConnection
from psycopg.rows import class_row

from shared.models import Collection, Filters, TextMatch
from shared.sql import for_collection, vector_text
from shared.sql.filters import EVERYTHING, condition

# Words that more images than this hold do not tell them apart, and are passed over.
MOST = 1000

# Whether the words are the name of {images} i, with or without folders and extension, in any case.
_IS_ITS_NAME = """
    lower(normalize(%(words)s)) IN (image_stem(i.r2_key), lower(normalize(regexp_replace(i.r2_key, '^.*/', ''))),
                                    lower(normalize(i.r2_key)))"""


async def find(
    conn: AsyncConnection[Any],
    collection: Collection,
    words: str,
    filters: Filters = EVERYTHING,
    *,
    exclude: Iterable[int] = (),
) -> list[int]:
    """Return the ids of the images whose name *words* is, and of those that hold all of the words.

    The first are at most MOST; when the second are more, there are none.
    """
    text, values = condition(filters)
    cur = await conn.execute(
        for_collection(
            f"""
            SELECT ARRAY(SELECT i.id FROM {{images}} AS i
                          WHERE image_stem(i.r2_key) IN (lower(normalize(%(words)s)), image_stem(%(words)s))
                            AND {_IS_ITS_NAME} AND i.id <> ALL (%(exclude)s::bigint[]) AND {text}
                          LIMIT %(most)s),
                   ARRAY(SELECT i.id FROM {{images}} AS i
                          WHERE image_words(i.r2_key, i.keywords, i.caption) @@ words_query(%(words)s)
                            AND i.id <> ALL (%(exclude)s::bigint[]) AND {text}
                          LIMIT %(most)s + 1)
            """,  # noqa: S608 - constants
            collection,
        ),
        values | {"words": words, "exclude": list(exclude), "most": MOST},
    )
    row = await cur.fetchone()
    assert row is not None
    called, holding = row
    return sorted({*called, *(holding if len(holding) <= MOST else ())})


async def score(
    conn: AsyncConnection[Any], collection: Collection, words: str, query: Sequence[float], ids: Sequence[int]
) -> list[TextMatch]:
    """Return the images *ids* with how *words* name them and how near they are to *query*."""
    async with conn.cursor(row_factory=class_row(TextMatch)) as cur:
        await cur.execute(
            for_collection(
                f"""
                SELECT i.id, {_IS_ITS_NAME} AS exact,
                       image_words(regexp_replace(i.r2_key, '^.*/', ''), i.keywords, i.caption)
                           @@ words_query(%(words)s) AS own,
                       -(e.embedding <#> %(query)s::halfvec) AS score
                  FROM {{images}} AS i JOIN {{embeddings}} AS e USING (id)
                 WHERE i.id = ANY (%(ids)s)
                 ORDER BY i.id
                """,  # noqa: S608 - constants
                collection,
            ),
            {"words": words, "query": vector_text(query), "ids": ids},
        )
        return await cur.fetchall()
