"""Nearest neighbours by inner product, by an exact scan or through the HNSW index.

Vectors have unit length, so the inner product is the cosine. pgvector's ``<#>`` is its negative: the nearest come first
in ascending order.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, LiteralString

from shared.db.pool import Connection
from shared.models import Collection, Filters, Hit, Image, Ranking
from shared.sql import execute, fetch_all, fetch_value, next_embeddings, vector_text
from shared.sql.filters import EVERYTHING, condition, embedded_rows, row_condition
from shared.sql.images import IMAGE_COLUMNS, IMAGE_TABLES

# The rows of an iterative scan in relaxed order are sorted afterwards. A strict order drops near rows that the scan
# finds late: it found only 10 of 30 neighbours for some queries far from all clusters. For so many rows, the planner
# might prefer a sequential scan.
_INDEX_SETTINGS = """
    SELECT set_config('hnsw.ef_search', '400', true),
           set_config('hnsw.iterative_scan', 'relaxed_order', true),
           set_config('hnsw.max_scan_tuples', '100000', true),
           set_config('hnsw.scan_mem_multiplier', '8', true),
           set_config('enable_seqscan', 'off', true)
"""


@dataclass(frozen=True)
class VectorQuery:
    """A unit vector, and the images to compare it with: those that pass the filters, without *exclude*."""

    vector: Sequence[float]
    filters: Filters = EVERYTHING
    exclude: Iterable[int] = ()


async def are_few(conn: Connection, collection: Collection, filters: Filters, *, at_most: int) -> bool:
    """Return whether at most *at_most* images pass the filters."""
    where, values = condition(filters)
    statement = f"""
        SELECT count(*) <= %(at_most)s
          FROM (SELECT FROM {{images}} AS i WHERE {where} LIMIT %(at_most)s + 1) AS counted
    """  # noqa: S608 - constants
    few: bool = await fetch_value(conn, collection, statement, values | {"at_most": at_most})
    return few


async def exact(
    conn: Connection,
    collection: Collection,
    query: VectorQuery,
    *,
    limit: int,
    after: tuple[float, int] | None = None,
    min_score: float | None = None,
) -> list[tuple[Hit, float]]:
    """Return the *limit* images nearest to *query* by an exact scan, nearest first, each with its distance.

    Continues after the (distance, id) *after*: the order is total, so pages neither repeat nor skip images. Leaves out
    images that score below *min_score*. Raises ModelChanged when the collection was switched to another model.
    """
    scan, values = _exact_scan(collection, query, limit=limit, after=after, min_score=min_score)
    statement = f"""
        WITH nearest AS MATERIALIZED ({scan})
        SELECT {IMAGE_COLUMNS}, nearest.distance
          FROM nearest JOIN ({IMAGE_TABLES}) ON i.id = nearest.id
         ORDER BY nearest.distance, nearest.id
    """  # noqa: S608 - constants
    found = await fetch_all(conn, collection, _to_hit_and_distance, statement, values)
    if not found:
        await next_embeddings.check_model(conn, collection)
    return found


def _to_hit_and_distance(*, distance: float, **image: Any) -> tuple[Hit, float]:
    return to_hit(score=-distance, **image), distance


async def nearest(conn: Connection, collection: Collection, query: VectorQuery, *, limit: int) -> Ranking:
    """Return the ranking of the *limit* images nearest to *query* by an exact scan."""
    scan, values = _exact_scan(collection, query, limit=limit)
    return _ranking(await (await execute(conn, collection, scan, values)).fetchall())


def _exact_scan(
    collection: Collection,
    query: VectorQuery,
    *,
    limit: int,
    after: tuple[float, int] | None = None,
    min_score: float | None = None,
) -> tuple[LiteralString, dict[str, Any]]:
    """Return the statement that compares *query* with all vectors, if they are of the collection's model."""
    rows, values = embedded_rows(query.filters)
    distance, image_id = after or (None, None)
    # "+ 0" keeps the planner from using the HNSW index, which may return too few rows.
    statement: LiteralString = f"""
        SELECT id, distance
          FROM (SELECT e.id, (e.embedding <#> %(vector)s::halfvec) + 0 AS distance FROM {rows}) AS scanned
         WHERE EXISTS (SELECT FROM vector_tables AS v
                        WHERE v.bucket = %(bucket)s AND v.name = %(vectors)s AND v.model = %(model)s)
           AND (%(distance)s::float8 IS NULL OR (distance, id) > (%(distance)s, %(id)s))
           AND (%(min_score)s::float8 IS NULL OR distance <= -%(min_score)s::float8)
           AND id <> ALL (%(exclude)s::bigint[])
         ORDER BY distance, id LIMIT %(limit)s
        """  # noqa: S608 - constants
    values |= {"vector": vector_text(query.vector), "exclude": list(query.exclude), "limit": limit}
    values |= {"distance": distance, "id": image_id, "min_score": min_score}
    return statement, values | vars(collection)


async def nearest_by_hnsw(
    conn: Connection, collection: Collection, query: VectorQuery, *, candidates: int, limit: int
) -> Ranking | None:
    """Return the approximate ranking from *candidates* rows of the HNSW index; None if it finds fewer.

    Without an iterative scan the index would stop after ``hnsw.ef_search`` rows, deleted and filtered ones included.
    """
    where, values = row_condition(query.filters)
    values |= {"vector": vector_text(query.vector), "exclude": list(query.exclude)}
    await conn.execute(_INDEX_SETTINGS)
    statement = f"""
        WITH candidates AS MATERIALIZED (
            SELECT e.id, e.embedding <#> %(vector)s::halfvec AS distance
              FROM {{embeddings}} AS e
             WHERE e.embedding IS NOT NULL AND e.id <> ALL (%(exclude)s::bigint[]) AND {where}
             ORDER BY e.embedding <#> %(vector)s::halfvec LIMIT %(candidates)s)
        SELECT id, distance, (SELECT count(*) FROM candidates)
          FROM candidates
         -- Without "+ 0" the planner would assume that they are sorted.
         ORDER BY distance + 0, id LIMIT %(limit)s
    """  # noqa: S608 - constants
    cur = await execute(conn, collection, statement, values | {"candidates": candidates, "limit": limit})
    rows = await cur.fetchall()
    await conn.execute("SET LOCAL enable_seqscan = on")
    return _ranking(rows) if rows and rows[0][2] == candidates else None


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


async def vector_of(conn: Connection, collection: Collection, image_id: int) -> list[float] | None:
    """Return the image's vector; None if it is not embedded."""
    query = "SELECT embedding::real[] FROM {embeddings} WHERE id = %s"
    vector: list[float] | None = await fetch_value(conn, collection, query, [image_id])
    return vector


def _ranking(rows: Sequence[Sequence[Any]]) -> Ranking:
    return Ranking([row[0] for row in rows], [_clamp(-row[1]) for row in rows], [])


def to_hit(*, score: float | None, text_match: bool = False, **image: Any) -> Hit:
    """Return the hit of a row; *image* has the columns of Image."""
    return Hit(Image(**image), None if score is None else _clamp(score), text_match)


def _clamp(score: float) -> float:
    # Vectors are stored in half precision, so the product of two unit vectors can slightly exceed 1.
    return max(-1.0, min(1.0, score))
