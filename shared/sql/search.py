"""Nearest neighbours by inner product: exact where that is cheap, over the HNSW index where it is not.

Vectors have unit length, so the inner product is the cosine. pgvector's ``<#>`` is its negative, which makes the
nearest come first in ascending order.
"""

from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import Any
from uuid import UUID

from psycopg import AsyncConnection
from psycopg.rows import DictRow, dict_row

from shared.model import Collection, Filters, Hit, Image
from shared.sql import for_collection, vector_text
from shared.sql.filters import EVERYTHING, wanted
from shared.sql.images import IMAGE_COLUMNS, IMAGE_TABLES


async def exact(
    conn: AsyncConnection[Any],
    collection: Collection,
    query: Sequence[float],
    filters: Filters = EVERYTHING,
    *,
    limit: int,
    after: tuple[float, int] | None = None,
    leave_out: Iterable[int] = (),
    lowest: float | None = None,
) -> list[tuple[Hit, float]]:
    """Return the *limit* images nearest to *query*, nearest first, each with its exact distance, compared with all.

    *after* is the (distance, id) behind which to continue, *lowest* the score at which to end. The order is total, so
    that pages neither repeat nor skip.
    """
    distance, image_id = after or (None, None)
    condition, values = wanted(filters)
    async with conn.cursor(row_factory=dict_row) as cur:
        await cur.execute(
            for_collection(
                # "+ 0" keeps the planner from the HNSW index, which may return fewer rows than there are.
                f"""
                WITH nearest AS MATERIALIZED (
                    SELECT id, distance
                      FROM (SELECT e.id, (e.embedding <#> %(query)s::halfvec) + 0 AS distance
                              FROM {{embeddings}} AS e
                             WHERE e.embedding IS NOT NULL AND {condition}) AS compared
                     WHERE (%(distance)s::float8 IS NULL OR (distance, id) > (%(distance)s, %(id)s))
                       AND (%(lowest)s::float8 IS NULL OR distance <= -%(lowest)s::float8)
                       AND id <> ALL (%(leave_out)s::bigint[])
                     ORDER BY distance, id
                     LIMIT %(limit)s)
                SELECT {IMAGE_COLUMNS}, nearest.distance
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
                "lowest": lowest,
                "leave_out": list(leave_out),
                "limit": limit,
                "model": collection.model,
            },
        )
        return [(_hit(row, -row["distance"]), row.pop("distance")) for row in await cur.fetchall()]


async def ranking(
    conn: AsyncConnection[Any],
    collection: Collection,
    query: Sequence[float],
    filters: Filters = EVERYTHING,
    *,
    depth: int,
    leave_out: Iterable[int] = (),
) -> tuple[list[int], list[float]]:
    """Return the ids of the *depth* images nearest to *query* by the HNSW index, nearest first, and their scores.

    The index is made to go on until it has that many: by itself it stops after ``hnsw.ef_search`` (40) rows, counting
    deleted ones and those that the filters refuse. It gives up after a tenth of a million rows; then there are fewer.
    """
    condition, values = wanted(filters)
    await conn.execute("SET LOCAL hnsw.iterative_scan = strict_order")
    await conn.execute("SET LOCAL hnsw.max_scan_tuples = 100000")
    # The setting's largest value is 1,000; beyond it the scan goes on in rounds.
    await conn.execute("SELECT set_config('hnsw.ef_search', %s, true)", [str(min(max(depth, 100), 1000))])
    cur = await conn.execute(
        for_collection(
            f"""
            SELECT e.id, -(e.embedding <#> %(query)s::halfvec)
              FROM {{embeddings}} AS e
             WHERE e.embedding IS NOT NULL AND e.id <> ALL (%(leave_out)s::bigint[]) AND {condition}
             ORDER BY e.embedding <#> %(query)s::halfvec LIMIT %(depth)s
            """,  # noqa: S608 - constants
            collection,
        ),
        values | {"query": vector_text(query), "leave_out": list(leave_out), "depth": depth},
    )
    rows = await cur.fetchall()
    return [row[0] for row in rows], [_clamped(row[1]) for row in rows]


async def save_walk(
    conn: AsyncConnection[Any],
    collection: Collection,
    walk: UUID,
    ids: list[int],
    scores: list[float],
    *,
    now: datetime,
) -> None:
    """Keep a ranking, so that every page of it, on any server, comes from the same list."""
    await conn.execute(
        "INSERT INTO walks (id, bucket, ids, scores, created_at) VALUES (%s, %s, %s, %s, %s)",
        [walk, collection.bucket, ids, scores, now],
    )


async def forget_walks(conn: AsyncConnection[Any], *, before: datetime) -> int:
    """Remove the rankings made before that time; return how many."""
    return (await conn.execute("DELETE FROM walks WHERE created_at < %s", [before])).rowcount


async def walk_page(
    conn: AsyncConnection[Any], collection: Collection, walk: UUID, *, after: int, limit: int
) -> tuple[list[Hit], int | None] | None:
    """Return the next *limit* hits of a kept ranking behind position *after*, and the position to continue from.

    That position is None at the end. Images removed since are passed over, and the page is filled up behind them.
    Returns None when there is no such ranking any more.
    """
    async with conn.cursor(row_factory=dict_row) as cur:
        await cur.execute(
            for_collection(
                f"""
                SELECT {IMAGE_COLUMNS}, ranked.position, ranked.score, cardinality(walks.ids) AS length
                  FROM walks, unnest(walks.ids, walks.scores) WITH ORDINALITY AS ranked (id, score, position)
                  JOIN ({IMAGE_TABLES}) ON i.id = ranked.id
                 WHERE walks.id = %(walk)s AND walks.bucket = %(bucket)s AND ranked.position > %(after)s
                 ORDER BY ranked.position LIMIT %(limit)s
                """,  # noqa: S608 - constants
                collection,
            ),
            {"walk": walk, "bucket": collection.bucket, "after": after, "limit": limit, "model": collection.model},
        )
        rows = await cur.fetchall()
    if not rows:
        known = await conn.execute("SELECT FROM walks WHERE id = %s AND bucket = %s", [walk, collection.bucket])
        return ([], None) if await known.fetchone() else None
    hits, position, length = [], 0, rows[0]["length"]
    for row in rows:
        position, score = row.pop("position"), row.pop("score")
        del row["length"]
        hits.append(_hit(row, score))
    return hits, (position if position < length else None)


async def vector_of(conn: AsyncConnection[Any], collection: Collection, image_id: int) -> list[float] | None:
    """Return the image's vector as it is stored; None where there is none (yet)."""
    cur = await conn.execute(
        for_collection("SELECT embedding::real[] FROM {embeddings} WHERE id = %s", collection), [image_id]
    )
    row = await cur.fetchone()
    return list(row[0]) if row and row[0] is not None else None


def _hit(row: DictRow, score: float) -> Hit:
    return Hit(Image(**{name: value for name, value in row.items() if name != "distance"}), _clamped(score))


def _clamped(score: float) -> float:
    # Vectors are stored in half precision: the product of two such unit vectors can exceed 1 by a little.
    return max(-1.0, min(1.0, score))
