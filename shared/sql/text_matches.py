"""Images whose name, folders, keywords, title, caption, comment or place match the words of a query."""

from collections.abc import Iterable, Sequence
from typing import LiteralString

from shared.models import Filters
from shared.sql import Statement, vector_text
from shared.sql.filters import EVERYTHING, condition

# Words that more images contain do not distinguish them, and are ignored.
MAX_MATCHES = 1000

# Conditions on {images} i. They contain all the words; they may have the words as their name.
_CONTAINS: LiteralString = "image_words(i.r2_key, i.keywords, i.title, i.caption, i.exif) @@ words_query(%(words)s)"
_MAY_BE_NAMED: LiteralString = "image_stem(i.r2_key) IN (folded(%(words)s), image_stem(%(words)s))"
# The words are the name of {images} i, with or without folders and extension, in any case and without accents.
_IS_NAME = """
    folded(%(words)s) IN (image_stem(i.r2_key), folded(regexp_replace(i.r2_key, '^.*/', '')), folded(i.r2_key))"""


def exist(words: str, filters: Filters) -> Statement:
    """Return the statement that selects whether ``find`` may find any match, which takes a third of its time."""
    where, values = condition(filters)
    text: LiteralString = f"""
        SELECT EXISTS (SELECT FROM {{images}} AS i WHERE {_CONTAINS} AND {where})
            OR EXISTS (SELECT FROM {{images}} AS i WHERE {_MAY_BE_NAMED} AND {where})
    """  # noqa: S608 - constants
    return Statement(text, values | {"words": words})


def find(
    words: str, vector: Sequence[float], filters: Filters = EVERYTHING, *, exclude: Iterable[int] = ()
) -> Statement:
    """Return the statement that selects the TextMatches of *words*: images of that name, and images with all the words.

    Of the former at most MAX_MATCHES; the latter are left out if they are more. They are scored by *vector*.
    """
    where, values = condition(filters)
    text: LiteralString = f"""
        WITH containing AS MATERIALIZED (
            SELECT i.id FROM {{images}} AS i
             WHERE {_CONTAINS} AND {where}
             LIMIT %(max_matches)s + 1),
        named AS (
            SELECT i.id FROM {{images}} AS i
             WHERE {_MAY_BE_NAMED} AND {_IS_NAME} AND {where}
             LIMIT %(max_matches)s),
        found AS (
            SELECT id FROM named
             UNION SELECT id FROM containing WHERE (SELECT count(*) FROM containing) <= %(max_matches)s),
        scores AS MATERIALIZED (  -- without it, Citus would send all images to the workers
            SELECT e.id, -(e.embedding <#> %(vector)s::halfvec) AS score
              FROM {{embeddings}} AS e WHERE e.id IN (SELECT id FROM found))
        SELECT i.id, {_IS_NAME} AS exact_name,
               image_words(regexp_replace(i.r2_key, '^.*/', ''), i.keywords, i.title, i.caption, i.exif)
                   @@ words_query(%(words)s) AS without_folders,
               (SELECT count(*) FROM containing) AS frequency, scores.score
          FROM scores JOIN {{images}} AS i USING (id)
         WHERE i.id <> ALL (%(exclude)s::bigint[])
         ORDER BY i.id
    """  # noqa: S608 - constants
    values |= {"words": words, "vector": vector_text(vector), "exclude": list(exclude), "max_matches": MAX_MATCHES}
    return Statement(text, values)
