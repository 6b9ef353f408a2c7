"""Pages of a ranked search: always full until the end, and the same on every server.

If few images pass the filters, an exact scan compares the query with all of them; otherwise the HNSW index ranks the
nearest. The cursor's position says how the next page is found:

- ``["exact", distance, id]``: repeat the exact scan after this distance and id. Their order is total, so nothing has
  to be stored.
- ``["shown", ids]``: rank once more without the images of the first page, and store the result as a *saved ranking*.
  Continuing by distance would skip images in the index, and new images would shift an order fused from two rankings.
- ``["saved", ranking, position]``: read the saved ranking after this position.
"""

from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import NAMESPACE_URL, UUID, uuid5

from server.problem import Problem
from server.search.fusion import fuse
from server.search.query import Query
from shared.db.pool import Connection, Database
from shared.models import Collection, Filters, Hit, Ranking
from shared.sql import next_embeddings, saved_rankings, text_matches, vector_search
from shared.sql.filters import EVERYTHING
from shared.sql.vector_search import VectorQuery

# Up to this many images an exact scan is fast enough, and pages reach the end.
EXACT_SCAN_LIMIT = 40_000
# Beyond it, pages reach this many results.
MAX_DEPTH = 2_000
# TTL and maximum number of saved rankings per collection.
RANKING_TTL = timedelta(hours=1)
MAX_RANKINGS = 500

Position = list[Any]
HitsAndPosition = tuple[list[Hit], Position | None]


@dataclass(frozen=True)
class RankedSearch:
    """A query over one collection. ``embedded`` is the approximate number of images with a vector.

    Matches that score below ``threshold`` are weak: ranked last, or left out with ``strict``.
    """

    collection: Collection
    query: Query
    filters: Filters
    threshold: float | None
    strict: bool
    embedded: int

    async def page(
        self, database: Database, position: Position | None, cursor: str | None, *, limit: int
    ) -> HitsAndPosition:
        """Return the *limit* hits after *position*, which *cursor* contains, and the next position if there is one."""
        match position:
            case None:
                return await database.read(self._first_page, limit)
            case ["exact", distance, image_id]:
                return await database.read(self._exact_page, limit, (float(distance), int(image_id)))
            case ["shown", ids]:
                # Named after the cursor, so that using a cursor twice continues the same ranking.
                return await database.run(self._second_page, limit, uuid5(NAMESPACE_URL, cursor or ""), ids)
            case ["saved", ranking_id, last]:
                return await database.run(self._saved_page, limit, UUID(ranking_id), last)
        raise Problem(400, "cursor is from another version of Image Browser: search again")

    async def _first_page(self, conn: Connection, limit: int) -> HitsAndPosition:
        matches = await self._matching_ids(conn)
        exact = await self._scans_exactly(conn)
        if exact and not matches:
            return await self._exact_page(conn, limit, None)
        depth = max(MAX_DEPTH, limit + 1) if matches else min(MAX_DEPTH, limit + 1)
        ranking = await self._rank(conn, matches, depth=depth, exact=exact)
        hits = await vector_search.hits(conn, self.collection, ranking, limit=limit)
        return hits, ["shown", [hit.image.id for hit in hits]] if len(ranking.ids) > limit else None

    async def _exact_page(self, conn: Connection, limit: int, after: tuple[float, int] | None) -> HitsAndPosition:
        found = await vector_search.exact(
            conn,
            self.collection,
            self._vector_query,
            limit=limit + 1,
            after=after,
            min_score=self.threshold if self.strict else None,
        )
        hits = [hit for hit, _ in found[:limit]]
        return hits, ["exact", found[limit - 1][1], hits[-1].image.id] if len(found) > limit else None

    async def _second_page(self, conn: Connection, limit: int, ranking_id: UUID, shown: list[int]) -> HitsAndPosition:
        if not await saved_rankings.exists(conn, self.collection, ranking_id):
            ranking = await self._rest(conn, shown)
            now = datetime.now(UTC)
            await saved_rankings.prune(conn, self.collection, before=now - RANKING_TTL, keep=MAX_RANKINGS)
            await saved_rankings.save(conn, self.collection, ranking_id, ranking, now=now)
        return await self._saved_page(conn, limit, ranking_id, 0)

    async def _rest(self, conn: Connection, shown: list[int]) -> Ranking:
        """Return the whole ranking without the images that the first page has shown."""
        rest = replace(self, query=replace(self.query, exclude=self.query.exclude.union(shown)))
        matches = await rest._matching_ids(conn)
        exact = await rest._scans_exactly(conn)
        depth = EXACT_SCAN_LIMIT if exact else max(0, MAX_DEPTH - len(shown))
        return await rest._rank(conn, matches, depth=depth, exact=exact)

    async def _saved_page(self, conn: Connection, limit: int, ranking_id: UUID, after: int) -> HitsAndPosition:
        found = await saved_rankings.page(conn, self.collection, ranking_id, after=after, limit=limit)
        if found is None:
            raise Problem(400, "cursor has expired: search again")
        hits, position = found
        return hits, ["saved", str(ranking_id), position] if position else None

    async def _matching_ids(self, conn: Connection) -> list[int]:
        """Return the ids of the images whose name or metadata match the query's words."""
        if not self.query.words:
            return []
        return await text_matches.find(
            conn, self.collection, self.query.words, self.filters, exclude=self.query.exclude
        )

    async def _scans_exactly(self, conn: Connection) -> bool:
        """Return whether so few images pass the filters that all are compared with the query."""
        if self.embedded <= EXACT_SCAN_LIMIT:
            return True
        if self.filters == EVERYTHING:
            return False
        return await vector_search.are_few(conn, self.collection, self.filters, at_most=EXACT_SCAN_LIMIT)

    async def _rank(self, conn: Connection, matching_ids: list[int], *, depth: int, exact: bool) -> Ranking:
        """Return the *depth* images nearest to the query, fused with the text matches."""
        matches = []
        async with conn.transaction():
            await next_embeddings.check_model(conn, self.collection)
            visual = await self._nearest(conn, depth=depth, exact=exact)
            if matching_ids:
                words, vector = self.query.words or "", self._vector_query.vector
                matches = await text_matches.score(conn, self.collection, words, vector, matching_ids)
        return fuse(visual, matches, depth=MAX_DEPTH, threshold=self.threshold, strict=self.strict)

    async def _nearest(self, conn: Connection, *, depth: int, exact: bool) -> Ranking:
        if not exact:
            ranking = await vector_search.nearest_by_hnsw(
                conn, self.collection, self._vector_query, candidates=MAX_DEPTH, limit=depth
            )
            if ranking is not None:
                return ranking
        return await vector_search.nearest(conn, self.collection, self._vector_query, limit=depth)

    @property
    def _vector_query(self) -> VectorQuery:
        return VectorQuery(self.query.vector.tolist(), self.filters, self.query.exclude)
