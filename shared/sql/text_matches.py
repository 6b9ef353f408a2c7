"""Images that match the words of a query: by name, folders and metadata, or by the text in the picture."""

from collections.abc import Iterable, Sequence
from typing import LiteralString

from shared.models import Filters
from shared.sql import Statement, vector_text
from shared.sql.filters import EVERYTHING, condition

# Words that more images contain do not distinguish them, and are ignored.
MAX_MATCHES = 1000

# Conditions on {images} i. They contain all the words; they may have the words as their name.
# The query is computed once in a subquery, because it reads the names of places.
_WORDS_QUERY: LiteralString = "(SELECT words_query(%(words)s))"
_CONTAINS: LiteralString = f"image_words(i.r2_key, i.keywords, i.title, i.caption, i.exif, i.places) @@ {_WORDS_QUERY}"
_MAY_BE_NAMED: LiteralString = "image_stem(i.r2_key) IN (folded(%(words)s), image_stem(%(words)s))"
# The words are the name of {images} i, with or without folders and extension, in any case and without accents.
_IS_NAME = """
    folded(%(words)s) IN (image_stem(i.r2_key), folded(regexp_replace(i.r2_key, '^.*/', '')), folded(i.r2_key))"""

# Their pictures show all the words, or similar ones: words that begin with them or differ by one letter.
_SHOWS: LiteralString = f"i.id IN (SELECT t.id FROM {{texts}} AS t WHERE t.words @@ {_WORDS_QUERY})"  # noqa: S608 - constants
_SHOWS_SIMILAR: LiteralString = (
    "i.id IN (SELECT t.id FROM {texts} AS t WHERE t.words @@ similar_words_query(%(words)s))"
)


def exist(words: str, filters: Filters, *, ocr: bool) -> Statement:
    """Return the statement that selects whether ``find`` may find any match, which takes a third of its time."""
    where, values = condition(filters)
    shows: LiteralString = (
        f"EXISTS (SELECT FROM {{images}} AS i WHERE {_SHOWS_SIMILAR} AND {where})" if ocr else "false"
    )
    text: LiteralString = f"""
        SELECT EXISTS (SELECT FROM {{images}} AS i WHERE {_CONTAINS} AND {where})
            OR EXISTS (SELECT FROM {{images}} AS i WHERE {_MAY_BE_NAMED} AND {where})
            OR {shows}
    """  # noqa: S608 - constants
    return Statement(text, values | {"words": words})


def find(
    words: str, vector: Sequence[float], filters: Filters = EVERYTHING, *, ocr: bool, exclude: Iterable[int] = ()
) -> Statement:
    """Return the statement that selects the TextMatches of *words*: images of that name, and images with all the words.

    With *ocr*, also those whose pictures show all the words, or similar ones. Of images of that name at most
    MAX_MATCHES are selected; each other kind is left out if there are more. The matches are scored by *vector*.
    """
    where, values = condition(filters)
    shows, shows_similar = (_SHOWS, _SHOWS_SIMILAR) if ocr else ("false", "false")
    text: LiteralString = f"""
        WITH containing AS MATERIALIZED (
            SELECT i.id FROM {{images}} AS i
             WHERE {_CONTAINS} AND {where}
             LIMIT %(max_matches)s + 1),
        showing AS MATERIALIZED (
            SELECT i.id FROM {{images}} AS i WHERE {shows} AND {where} LIMIT %(max_matches)s + 1),
        showing_similar AS MATERIALIZED (
            SELECT i.id FROM {{images}} AS i WHERE {shows_similar} AND {where} LIMIT %(max_matches)s + 1),
        named AS (
            SELECT i.id FROM {{images}} AS i
             WHERE {_MAY_BE_NAMED} AND {_IS_NAME} AND {where}
             LIMIT %(max_matches)s),
        found AS (
            SELECT id FROM named
             UNION SELECT id FROM containing WHERE (SELECT count(*) FROM containing) <= %(max_matches)s
             UNION SELECT id FROM showing WHERE (SELECT count(*) FROM showing) <= %(max_matches)s
             UNION SELECT id FROM showing_similar WHERE (SELECT count(*) FROM showing_similar) <= %(max_matches)s),
        scores AS MATERIALIZED (  -- without it, Citus would send all images to the workers
            SELECT e.id, -(e.embedding <#> %(vector)s::halfvec) AS score
              FROM {{embeddings}} AS e WHERE e.id IN (SELECT id FROM found))
        SELECT i.id, {_IS_NAME} AS exact_name,
               image_words(regexp_replace(i.r2_key, '^.*/', ''), i.keywords, i.title, i.caption, i.exif, i.places)
                   @@ {_WORDS_QUERY} OR i.id IN (SELECT id FROM showing) AS without_folders,
               (SELECT count(*) FROM (SELECT id FROM containing UNION SELECT id FROM showing) AS exact) AS frequency,
               scores.score
          FROM scores JOIN {{images}} AS i USING (id)
         WHERE i.id <> ALL (%(exclude)s::bigint[])
         ORDER BY i.id
    """  # noqa: S608 - constants
    values |= {"words": words, "vector": vector_text(vector), "exclude": list(exclude), "max_matches": MAX_MATCHES}
    return Statement(text, values)
