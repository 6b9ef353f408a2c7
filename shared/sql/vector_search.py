"""Nearest neighbours by inner product, by an exact scan or through the HNSW index.

Vectors have unit length, so the inner product is the cosine. pgvector's ``<#>`` is its negative: the nearest come first
in ascending order.

The statements of a search are sent as one message, an implicit transaction: that takes one round trip, and the settings
of the index end with it, also behind poolers.
"""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, LiteralString

from shared.db.pool import Connection
from shared.models import Collection, Filters, Hit, Image, Ranking, TextMatch
from shared.sql import (
    Statement,
    fetch_all,
    fetch_sets,
    fetch_value,
    next_embeddings,
    placement,
    text_matches,
    vector_index,
    vector_text,
)
from shared.sql.filters import EVERYTHING, condition, embedded_rows, row_condition
from shared.sql.images import EMBEDDED_IMAGE_COLUMNS, IMAGE_COLUMNS, IMAGE_TABLES

# An exact scan of so many images takes as long as finding one result in the index.
ROWS_PER_RESULT = 20
_MAX_EF_SEARCH = 1000  # pgvector's limit

# An iterative scan continues beyond ef_search rows, deleted and filtered ones included. Strict order would drop near
# rows that it finds late: it found only 10 of 30 neighbours for some queries far from all clusters.
_INDEX_SETTINGS: tuple[LiteralString, ...] = (
    "SET LOCAL hnsw.ef_search = %(ef_search)s",
    "SET LOCAL hnsw.iterative_scan = relaxed_order",
    # The planner prefers a sequential scan of some thousand short vectors.
    "SET LOCAL enable_seqscan = off",
)
# For an exact scan that follows in the same transaction.
_EXACT_SETTINGS: tuple[LiteralString, ...] = ("SET LOCAL enable_seqscan = on",)


@dataclass(frozen=True)
class VectorQuery:
    """A unit vector, the words to find in names and captions, and the images to consider.

    Those are the images that pass the filters, without *exclude*.
    """

    vector: Sequence[float]
    words: str | None = None
    filters: Filters = EVERYTHING
    exclude: Iterable[int] = ()


def choose_ef_search(rows: int, limit: int) -> int | None:
    """Return hnsw.ef_search to find the *limit* nearest of *rows* images; None where an exact scan is faster.

    The larger the graph, the more of its clusters a narrow search misses: docs/decisions/14-search.md has the recall.
    """
    if rows <= ROWS_PER_RESULT * limit:
        return None
    recall = round(80 * math.pow(rows / 10_000, 0.2))
    return min(_MAX_EF_SEARCH, max(2 * limit, recall))


def max_filtered(rows: int, limit: int) -> int:
    """Return how many of *rows* images may pass a filter for an exact scan of those to be faster than the index.

    The index visits rows / passing * limit images, each in about five times the time of the exact scan.
    """
    return math.isqrt(5 * rows * limit)


async def are_few(conn: Connection, collection: Collection, filters: Filters, *, at_most: int) -> bool:
    """Return whether at most *at_most* images pass the filters."""
    where, values = condition(filters)
    statement = f"""
        SELECT count(*) <= %(at_most)s
          FROM (SELECT FROM {{images}} AS i WHERE {where} LIMIT %(at_most)s + 1) AS counted
    """  # noqa: S608 - constants
    few: bool = await fetch_value(conn, collection, statement, values | {"at_most": at_most})
    return few


async def search(
    conn: Connection, collection: Collection, query: VectorQuery, *, limit: int, ef_search: int | None
) -> tuple[list[Hit], bool]:
    """Return the *limit* images nearest to *query*, nearest first, and whether images may match its words.

    The index is scanned with *ef_search*; without it, or if the scan finds too few images because the filters are
    selective or many rows are dead, all images are compared. Raises ModelChanged when the collection was switched to
    another model.
    """
    select: LiteralString = (
        f"{EMBEDDED_IMAGE_COLUMNS}, -nearest.distance AS score FROM nearest JOIN {{images}} AS i USING (id)"
    )
    matching = text_matches.exist(query.words, query.filters, ocr=bool(collection.ocr)) if query.words else None
    found, matches = await _find(conn, collection, query, select, matching, limit=limit, ef_search=ef_search)
    hits = [Hit(Image(*image), _clamp(score)) for *image, score in found]
    return hits, any(exist for (exist,) in matches)


async def rank(
    conn: Connection, collection: Collection, query: VectorQuery, *, limit: int, ef_search: int | None
) -> tuple[Ranking, list[TextMatch]]:
    """Return what ``search`` finds, as ids and scores, and the images that match the query's words."""
    matching = _text_matches(collection, query) if query.words else None
    found, matches = await _find(
        conn, collection, query, "id, distance FROM nearest", matching, limit=limit, ef_search=ef_search
    )
    ranking = Ranking([image_id for image_id, _ in found], [_clamp(-distance) for _, distance in found], [])
    return ranking, [TextMatch(*match) for match in matches]


async def _find(
    conn: Connection,
    collection: Collection,
    query: VectorQuery,
    select: LiteralString,
    matching: Statement | None,
    *,
    limit: int,
    ef_search: int | None,
) -> tuple[list[tuple[Any, ...]], list[tuple[Any, ...]]]:
    """Return what *select* says of the ``nearest`` images, and the rows of *matching*."""
    settings = _INDEX_SETTINGS if ef_search else _EXACT_SETTINGS
    if collection.placement != "local":
        settings = (placement.PROPAGATE_SETTINGS, *settings)
    candidates = limit * vector_index.oversampling(collection.index_kind) if ef_search else limit
    scan, values = _scan(collection, query, by_index=bool(ef_search))
    values |= {
        "limit": limit,
        "candidates": candidates,
        "ef_search": min(_MAX_EF_SEARCH, max(ef_search or 0, candidates)),
    }
    # Without "+ 0" the planner assumes that a scan of the index returns the nearest first.
    nearest: LiteralString = f"""
        WITH nearest AS MATERIALIZED ({scan})
        SELECT {select} ORDER BY nearest.distance + 0, nearest.id LIMIT %(limit)s
    """
    statements = [Statement(text, values) for text in (*settings, nearest)]
    found, *matches = await fetch_sets(conn, collection, [*statements, *([matching] if matching else [])])
    if ef_search and len(found) < limit:
        return await _find(conn, collection, query, select, matching, limit=limit, ef_search=None)
    if not found:
        await next_embeddings.check_model(conn, collection)
    return found, matches[0] if matches else []


def _scan(collection: Collection, query: VectorQuery, *, by_index: bool) -> tuple[LiteralString, dict[str, Any]]:
    """Return the statement that selects ids and distances, if the vectors are of the collection's model."""
    distance: LiteralString = "e.embedding <#> %(vector)s::halfvec"
    if by_index:
        where, values = row_condition(query.filters, collection.placement)
        rows: LiteralString = f"{{embeddings}} AS e WHERE e.embedding IS NOT NULL AND {where}"
        order = vector_index.order(collection.index_kind)
    else:
        # With "+ 0" the planner cannot use the index, which may return too few rows.
        rows, values = embedded_rows(query.filters)
        order = f"({distance}) + 0, e.id"
    statement: LiteralString = f"""
        SELECT e.id, {distance} AS distance FROM {rows}
           AND {placement.holds_model(collection)}
           AND e.id <> ALL (%(exclude)s::bigint[])
         ORDER BY {order} LIMIT %(candidates)s
    """  # noqa: S608 - constants
    return statement, values | vars(collection) | {"vector": vector_text(query.vector), "exclude": list(query.exclude)}


def _text_matches(collection: Collection, query: VectorQuery) -> Statement:
    words = query.words or ""
    return text_matches.find(words, query.vector, query.filters, ocr=bool(collection.ocr), exclude=query.exclude)


def strong(collection: Collection, query: VectorQuery, threshold: float) -> Statement:
    """Return the statement that selects the ids of all images that score *threshold* or match the query's words."""
    rows, values = embedded_rows(query.filters)
    values |= vars(collection) | {"vector": vector_text(query.vector), "exclude": list(query.exclude)}
    text: LiteralString = f"""
        WITH near AS MATERIALIZED (
            SELECT e.id FROM {rows}
               AND {placement.holds_model(collection)}
               AND e.id <> ALL (%(exclude)s::bigint[])
               AND e.embedding <#> %(vector)s::halfvec <= -%(threshold)s::float)
        SELECT id FROM near
    """  # noqa: S608 - constants
    if query.words:
        matching = _text_matches(collection, query)
        text = f"{text} UNION SELECT id FROM ({matching.text}) AS matches"  # noqa: S608 - constants
        values |= matching.parameters
    return Statement(text, values | {"threshold": threshold})


async def hits(conn: Connection, collection: Collection, ranking: Ranking, *, limit: int) -> list[Hit]:
    """Return the first *limit* images of the ranking, without those deleted since."""
    statement = f"""
        SELECT {IMAGE_COLUMNS}, ranked.score, i.id = ANY (%(text_matches)s) AS text_match
          FROM unnest(%(ids)s::bigint[], %(scores)s::real[]) WITH ORDINALITY AS ranked (id, score, position)
          JOIN ({IMAGE_TABLES}) ON i.id = ranked.id
         ORDER BY ranked.position LIMIT %(limit)s
    """  # noqa: S608 - constants
    return await fetch_all(
        conn, collection, to_hit, statement, vars(ranking) | {"limit": limit, "model": collection.model}
    )


async def score(conn: Connection, collection: Collection, vector: Sequence[float], ids: Sequence[int]) -> list[Hit]:
    """Return the images with these ids, in this order, with their scores for a unit vector.

    Ids without an image are left out. Raises ModelChanged when the collection was switched to another model.
    """
    await next_embeddings.check_model(conn, collection)
    statement = f"""
        WITH scores AS MATERIALIZED (
            SELECT e.id, -(e.embedding <#> %(vector)s::halfvec) AS score
              FROM {{embeddings}} AS e WHERE e.id = ANY (%(ids)s::bigint[]))
        SELECT {IMAGE_COLUMNS}, scores.score
          FROM unnest(%(ids)s::bigint[]) WITH ORDINALITY AS asked (id, position)
          JOIN scores USING (id) JOIN ({IMAGE_TABLES}) ON i.id = asked.id ORDER BY asked.position
    """  # noqa: S608 - constants
    values = {"vector": vector_text(vector), "ids": list(ids), "model": collection.model}
    return await fetch_all(conn, collection, to_hit, statement, values)


async def vector_of(conn: Connection, collection: Collection, image_id: int) -> list[float] | None:
    """Return the image's vector; None if it is not embedded."""
    query = "SELECT embedding::real[] FROM {embeddings} WHERE id = %s"
    vector: list[float] | None = await fetch_value(conn, collection, query, [image_id])
    return vector


def to_hit(*, score: float | None, text_match: bool = False, **image: Any) -> Hit:
    """Return the hit of a row; *image* has the columns of Image."""
    return Hit(Image(**image), None if score is None else _clamp(score), text_match)


def _clamp(score: float) -> float:
    # Vectors are stored in half precision, so the product of two unit vectors can slightly exceed 1.
    return max(-1.0, min(1.0, score))
