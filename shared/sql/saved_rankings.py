"""Saved rankings: ids and scores of a search's later pages, so that every server continues the same list."""

from datetime import datetime
from typing import Any
from uuid import UUID

from shared.db.pool import Connection
from shared.models import Collection, Hit, Ranking
from shared.sql import fetch_all
from shared.sql.images import IMAGE_COLUMNS, IMAGE_TABLES
from shared.sql.vector_search import to_hit


async def save(conn: Connection, collection: Collection, ranking_id: UUID, ranking: Ranking, *, now: datetime) -> None:
    """Save a ranking, unless one with this id exists."""
    statement = """
        INSERT INTO saved_rankings (id, bucket, ids, scores, text_matches, created_at) VALUES (%s, %s, %s, %s, %s, %s)
        ON CONFLICT (id) DO NOTHING
    """
    await conn.execute(
        statement, [ranking_id, collection.bucket, ranking.ids, ranking.scores, ranking.text_matches, now]
    )


async def exists(conn: Connection, collection: Collection, ranking_id: UUID) -> bool:
    """Return whether the ranking is saved and has not been pruned."""
    statement = "SELECT FROM saved_rankings WHERE id = %s AND bucket = %s"
    cur = await conn.execute(statement, [ranking_id, collection.bucket])
    return cur.rowcount > 0


async def prune(conn: Connection, collection: Collection, *, before: datetime, keep: int) -> int:
    """Delete the collection's rankings older than *before* and all but the newest *keep*; return their number."""
    statement = """
        DELETE FROM saved_rankings WHERE id IN (
            SELECT id FROM saved_rankings
             WHERE bucket = %(bucket)s
               AND (created_at < %(before)s
                    OR created_at <= (SELECT created_at FROM saved_rankings WHERE bucket = %(bucket)s
                                       ORDER BY created_at DESC OFFSET %(keep)s LIMIT 1))
               FOR UPDATE SKIP LOCKED)
    """
    cur = await conn.execute(statement, {"bucket": collection.bucket, "before": before, "keep": keep})
    return cur.rowcount


async def page(
    conn: Connection, collection: Collection, ranking_id: UUID, *, after: int, limit: int
) -> tuple[list[Hit], int | None] | None:
    """Return the next *limit* hits after position *after*, and the position to continue from, None at the end.

    Images deleted since are skipped, and the page is filled with the hits after them. Returns None if the ranking does
    not exist.
    """
    statement = f"""
        SELECT {IMAGE_COLUMNS}, ranked.score, i.id = ANY (saved.text_matches) AS text_match,
               nullif(ranked.position, cardinality(saved.ids)) AS next
          FROM saved_rankings AS saved,
               unnest(saved.ids, saved.scores) WITH ORDINALITY AS ranked (id, score, position)
          JOIN ({IMAGE_TABLES}) ON i.id = ranked.id
         WHERE saved.id = %(ranking)s AND saved.bucket = %(bucket)s AND ranked.position > %(after)s
         ORDER BY ranked.position LIMIT %(limit)s
    """  # noqa: S608 - constants
    parameters = vars(collection) | {"ranking": ranking_id, "after": after, "limit": limit}
    rows = await fetch_all(conn, collection, _to_hit_and_next, statement, parameters)
    if not rows:
        return ([], None) if await exists(conn, collection, ranking_id) else None
    return [hit for hit, _ in rows], (rows[-1][1] if len(rows) == limit else None)


def _to_hit_and_next(*, next: int | None, **hit: Any) -> tuple[Hit, int | None]:
    return to_hit(**hit), next
