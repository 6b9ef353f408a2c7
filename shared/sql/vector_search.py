"""Nearest neighbours by inner product: exact where that is cheap, over the HNSW index where it is not.

Vectors have unit length, so the inner product is the cosine. pgvector's ``<#>`` is its negative, which makes the
nearest come first in ascending order.
"""

from collections.abc import Iterable, Sequence
from typing import Any

from psycopg import AsyncConnection
from psycopg.rows import DictRow, dict_row

from shared.models import Collection, Filters, Hit, Image, Ranking
from shared.sql import for_collection, next_embeddings, vector_text
from shared.sql.filters import EVERYTHING, condition, wanted_in_turn, with_vectors
from shared.sql.images import IMAGE_COLUMNS, IMAGE_TABLES

# Rows of an iterative scan in relaxed order are put in order afterwards. In strict order, a scan passes over what it
# finds late, though it is near: 10 of 30 neighbours were found for some queries that are far from all clusters. A scan
# of the whole table is what the planner might prefer for so many rows.
_INDEX_SETTINGS = """
    SELECT set_config('hnsw.ef_search', '400', true),
           set_config('hnsw.iterative_scan', 'relaxed_order', true),
           set_config('hnsw.max_scan_tuples', '100000', true),
           set_config('hnsw.scan_mem_multiplier', '8', true),
           set_config('enable_seqscan', 'off', true)
"""


async def embedded(conn: AsyncConnection[Any], collection: Collection) -> int:
    """Return how many images have a vector, from what triggers keep."""
    cur = await conn.execute(
        for_collection(
            """
            SELECT (SELECT coalesce(sum(images), 0)::bigint FROM {counts})
                 - (SELECT coalesce(sum(pending + failed), 0)::bigint FROM {counts} WHERE model = %(model)s)
            """,
            collection,
        ),
        {"model": collection.model},
    )
    row = await cur.fetchone()
    assert row is not None
    return int(row[0])


async def are_few(conn: AsyncConnection[Any], collection: Collection, filters: Filters, *, at_most: int) -> bool:
    """Whether the filters leave *at_most* so many images."""
    condition_text, values = condition(filters)
    cur = await conn.execute(
        for_collection(
            f"""
            SELECT count(*) <= %(at_most)s
              FROM (SELECT FROM {{images}} AS i WHERE {condition_text} LIMIT %(at_most)s + 1) AS counted
            """,  # noqa: S608 - constants
            collection,
        ),
        values | {"at_most": at_most},
    )
    row = await cur.fetchone()
    return bool(row and row[0])


async def exact(
    conn: AsyncConnection[Any],
    collection: Collection,
    query: Sequence[float],
    filters: Filters = EVERYTHING,
    *,
    limit: int,
    after: tuple[float, int] | None = None,
    exclude: Iterable[int] = (),
    min_score: float | None = None,
) -> list[tuple[Hit, float]]:
    """Return the *limit* images nearest to *query*, each with its distance, nearest first, by an exact scan.

    *after* is the (distance, id) behind which to continue. Images that score below *min_score* are left out. The order
    is total, so that pages neither repeat nor skip images. Raises ModelChanged when the vectors are another model's.
    """
    distance, image_id = after or (None, None)
    rows, values = with_vectors(filters)
    async with conn.cursor(row_factory=dict_row) as cur:
        await cur.execute(
            for_collection(
                # "+ 0" keeps the planner from the HNSW index, which may return fewer rows than there are.
                f"""
                WITH nearest AS MATERIALIZED (
                    SELECT id, distance
                      FROM (SELECT e.id, (e.embedding <#> %(query)s::halfvec) + 0 AS distance
                              FROM {rows}) AS compared
                     WHERE EXISTS (SELECT FROM vector_tables AS v
                                    WHERE v.bucket = %(bucket)s AND v.name = %(vectors)s AND v.model = %(model)s)
                       AND (%(distance)s::float8 IS NULL OR (distance, id) > (%(distance)s, %(id)s))
                       AND (%(min_score)s::float8 IS NULL OR distance <= -%(min_score)s::float8)
                       AND id <> ALL (%(exclude)s::bigint[])
                     ORDER BY distance, id
                     LIMIT %(limit)s)
                SELECT {IMAGE_COLUMNS}, nearest.distance, -nearest.distance AS score
                  FROM nearest JOIN ({IMAGE_TABLES}) ON i.id = nearest.id
                 ORDER BY nearest.distance, nearest.id
                """,  # noqa: S608 - constants
                collection,
            ),
            values
            | {
                "query": vector_text(query),
                "distance": distance,
                "id": image_id,
                "min_score": min_score,
                "exclude": list(exclude),
                "limit": limit,
                "bucket": collection.bucket,
                "vectors": collection.vectors,
                "model": collection.model,
            },
        )
        found = await cur.fetchall()
    if not found:
        await next_embeddings.check_model(conn, collection)
    distances = [row.pop("distance") for row in found]
    return [(to_hit(row), distance) for row, distance in zip(found, distances, strict=True)]


async def nearest(
    conn: AsyncConnection[Any],
    collection: Collection,
    query: Sequence[float],
    filters: Filters = EVERYTHING,
    *,
    limit: int,
    exclude: Iterable[int] = (),
) -> Ranking:
    """Return the *limit* images nearest to *query*, nearest first, compared with all."""
    rows, values = with_vectors(filters)
    cur = await conn.execute(
        for_collection(
            f"""
            SELECT id, -distance
              FROM (SELECT e.id, (e.embedding <#> %(query)s::halfvec) + 0 AS distance
                      FROM {rows} AND e.id <> ALL (%(exclude)s::bigint[])) AS compared
             ORDER BY distance, id LIMIT %(limit)s
            """,  # noqa: S608 - constants
            collection,
        ),
        values | {"query": vector_text(query), "exclude": list(exclude), "limit": limit},
    )
    return _ranking(await cur.fetchall())


async def nearest_by_hnsw(
    conn: AsyncConnection[Any],
    collection: Collection,
    query: Sequence[float],
    filters: Filters = EVERYTHING,
    *,
    candidates: int,
    limit: int,
    exclude: Iterable[int] = (),
) -> Ranking | None:
    """Return nearly the same: the nearest of so many *candidates* as the HNSW index finds; None where it finds fewer.

    By itself the index stops after ``hnsw.ef_search`` (40) rows, counting those that are deleted or not wanted. It is
    made to go on, until it has looked at a hundred thousand.
    """
    condition_text, values = wanted_in_turn(filters)
    await conn.execute(_INDEX_SETTINGS)
    cur = await conn.execute(
        for_collection(
            f"""
            WITH candidates AS MATERIALIZED (
                SELECT e.id, e.embedding <#> %(query)s::halfvec AS distance
                  FROM {{embeddings}} AS e
                 WHERE e.embedding IS NOT NULL AND e.id <> ALL (%(exclude)s::bigint[]) AND {condition_text}
                 ORDER BY e.embedding <#> %(query)s::halfvec LIMIT %(candidates)s)
            SELECT id, -distance, (SELECT count(*) FROM candidates)
              FROM candidates
             -- Without "+ 0" the planner would take them for ordered already.
             ORDER BY distance + 0, id LIMIT %(limit)s
            """,  # noqa: S608 - constants
            collection,
        ),
        values | {"query": vector_text(query), "exclude": list(exclude), "candidates": candidates, "limit": limit},
    )
    rows = await cur.fetchall()
    await conn.execute("SET LOCAL enable_seqscan = on")
    return _ranking(rows) if rows and rows[0][2] == candidates else None


async def hits(conn: AsyncConnection[Any], collection: Collection, ranking: Ranking, *, limit: int) -> list[Hit]:
    """Return the first *limit* of the ranking's images, those that are (still) there."""
    async with conn.cursor(row_factory=dict_row) as cur:
        await cur.execute(
            for_collection(
                f"""
                SELECT {IMAGE_COLUMNS}, ranked.score, i.id = ANY (%(named)s) AS named
                  FROM unnest(%(ids)s::bigint[], %(scores)s::real[]) WITH ORDINALITY AS ranked (id, score, position)
                  JOIN ({IMAGE_TABLES}) ON i.id = ranked.id
                 ORDER BY ranked.position LIMIT %(limit)s
                """,  # noqa: S608 - constants
                collection,
            ),
            {
                "ids": ranking.ids,
                "scores": ranking.scores,
                "named": ranking.named,
                "limit": limit,
                "model": collection.model,
            },
        )
        return [to_hit(row) for row in await cur.fetchall()]


async def vector_of(conn: AsyncConnection[Any], collection: Collection, image_id: int) -> list[float] | None:
    """Return the image's vector as it is stored; None where there is none (yet)."""
    cur = await conn.execute(
        for_collection("SELECT embedding::real[] FROM {embeddings} WHERE id = %s", collection), [image_id]
    )
    row = await cur.fetchone()
    return list(row[0]) if row and row[0] is not None else None


def _ranking(rows: Sequence[Sequence[Any]]) -> Ranking:
    return Ranking([row[0] for row in rows], [_clamped(row[1]) for row in rows], [])


def to_hit(row: DictRow) -> Hit:
    score, named = row.pop("score"), row.pop("named", False)
    return Hit(Image(**row), None if score is None else _clamped(score), named)


def _clamped(score: float) -> float:
    # Vectors are stored in half precision: the product of two such unit vectors can exceed 1 by a little.
    return max(-1.0, min(1.0, score))
