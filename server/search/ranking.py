"""Pages of a ranked search: always full until the end, and the same on every server.

The first page takes the nearest images from the HNSW index, or compares all where that is faster. The cursor's position
says how the next page is found:

- ``["shown", ids]``: rank once, without the images of the first page, and store the result as a *saved ranking*. The
  index finds slightly other images for another limit, so continuing it would repeat and skip some.
- ``["saved", ranking, position]``: read the saved ranking after this position.

A search sorted by date ranks once as well, sorts the strong matches, and saves them if they do not fit the first page.
"""

from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import NAMESPACE_URL, UUID, uuid4, uuid5

import numpy as np

from server.problem import Problem
from server.search.fusion import VISUAL_DEPTH, fuse
from server.search.query import Query
from shared.db.pool import Connection, Database
from shared.models import Collection, Filters, Hit, Ranking, Sort
from shared.sql import images, saved_rankings, vector_search
from shared.sql.filters import EVERYTHING
from shared.sql.vector_search import VectorQuery

# Pages reach the end if at most this many images pass the filters,
COMPLETE_LIMIT = 20_000
# and otherwise this many results.
MAX_DEPTH = 2_000
# TTL and maximum number of saved rankings per collection.
RANKING_TTL = timedelta(hours=1)
MAX_RANKINGS = 500

Position = list[Any]
HitsAndPosition = tuple[list[Hit], Position | None]


@dataclass(frozen=True)
class RankedSearch:
    """A query over one collection. ``embedded`` is the approximate number of images with a vector.

    Matches that score below ``threshold`` are weak: ranked last, or left out with ``strict`` and with a ``sort`` by
    date.
    """

    collection: Collection
    query: Query
    filters: Filters
    threshold: float | None
    strict: bool
    embedded: int
    sort: Sort | None = None

    async def page(
        self, database: Database, position: Position | None, cursor: str | None, *, limit: int
    ) -> HitsAndPosition:
        """Return the *limit* hits after *position*, which *cursor* contains, and the next position if there is one."""
        match position:
            case None if self.sort:
                return await database.run(self._first_page_by_date, limit, self.sort)
            case None:
                return await database.read(self._first_page, limit)
            case ["shown", ids]:
                # Named after the cursor, so that using a cursor twice continues the same ranking.
                return await database.run(self._second_page, limit, uuid5(NAMESPACE_URL, cursor or ""), ids)
            case ["saved", ranking_id, last]:
                return await database.run(self._saved_page, limit, UUID(ranking_id), last)
        raise Problem(400, "cursor is from another version of Image Browser: search again")

    async def _first_page(self, conn: Connection, limit: int) -> HitsAndPosition:
        ef_search = await self._ef_search(conn, limit + 1)
        hits, may_match = await vector_search.search(
            conn, self.collection, vector_query(self.query, self.filters), limit=limit + 1, ef_search=ef_search
        )
        if may_match:
            ranking = await self._rank(conn, max(VISUAL_DEPTH, limit + 1))
            hits = await vector_search.hits(conn, self.collection, ranking, limit=limit + 1)
        elif self.strict and self.threshold is not None:
            hits = [hit for hit in hits if hit.score is not None and hit.score >= self.threshold]
        shown = hits[:limit]
        return shown, ["shown", [hit.image.id for hit in shown]] if len(hits) > limit else None

    async def _first_page_by_date(self, conn: Connection, limit: int, sort: Sort) -> HitsAndPosition:
        strong = replace(self, strict=True)
        # Without a threshold all images would be strong matches.
        ranking = await strong._rank(conn, await self._depth(conn) if self.threshold is not None else VISUAL_DEPTH)
        scores = dict(zip(ranking.ids, ranking.scores, strict=True))
        ids = await images.sort_ids(conn, self.collection, ranking.ids, sort)
        ranking = Ranking(ids, [scores[image_id] for image_id in ids], ranking.text_matches)
        if len(ids) <= limit:
            return await vector_search.hits(conn, self.collection, ranking, limit=limit), None
        ranking_id = uuid4()
        await self._save(conn, ranking_id, ranking)
        return await self._saved_page(conn, limit, ranking_id, 0)

    async def _second_page(self, conn: Connection, limit: int, ranking_id: UUID, shown: list[int]) -> HitsAndPosition:
        if not await saved_rankings.exists(conn, self.collection, ranking_id):
            await self._save(conn, ranking_id, await self._rest(conn, shown))
        return await self._saved_page(conn, limit, ranking_id, 0)

    async def _save(self, conn: Connection, ranking_id: UUID, ranking: Ranking) -> None:
        now = datetime.now(UTC)
        await saved_rankings.prune(conn, self.collection, before=now - RANKING_TTL, keep=MAX_RANKINGS)
        await saved_rankings.save(conn, self.collection, ranking_id, ranking, now=now)

    async def _rest(self, conn: Connection, shown: list[int]) -> Ranking:
        """Return the whole ranking without the images that the first page has shown."""
        rest = replace(self, query=replace(self.query, exclude=self.query.exclude.union(shown)))
        return await rest._rank(conn, await self._depth(conn, len(shown)))

    async def _depth(self, conn: Connection, shown: int = 0) -> int:
        """Return how many results there are to rank beyond those *shown*."""
        return COMPLETE_LIMIT if await self._are_few(conn, COMPLETE_LIMIT) else MAX_DEPTH - shown

    async def _saved_page(self, conn: Connection, limit: int, ranking_id: UUID, after: int) -> HitsAndPosition:
        found = await saved_rankings.page(conn, self.collection, ranking_id, after=after, limit=limit)
        if found is None:
            raise Problem(400, "cursor has expired: search again")
        hits, position = found
        return hits, ["saved", str(ranking_id), position] if position else None

    async def _rank(self, conn: Connection, limit: int) -> Ranking:
        """Return the *limit* images nearest to the query, fused with its text matches."""
        ef_search = await self._ef_search(conn, limit)
        visual, matches = await vector_search.rank(
            conn, self.collection, vector_query(self.query, self.filters), limit=limit, ef_search=ef_search
        )
        return fuse(visual, matches, images=self.embedded, threshold=self.threshold, strict=self.strict)

    async def _ef_search(self, conn: Connection, limit: int) -> int | None:
        """Return the ef_search to find *limit* images with; None to compare all that pass the filters."""
        ef_search = vector_search.choose_ef_search(self.embedded, limit)
        if ef_search and await self._are_few(conn, vector_search.max_filtered(self.embedded, limit)):
            return None
        return ef_search

    async def _are_few(self, conn: Connection, at_most: int) -> bool:
        """Return whether at most *at_most* images are embedded or pass the filters."""
        if self.embedded <= at_most:
            return True
        if self.filters == EVERYTHING:
            return False
        return await vector_search.are_few(conn, self.collection, self.filters, at_most=at_most)


def vector_query(query: Query, filters: Filters = EVERYTHING) -> VectorQuery:
    """Return the query for the database, over the images that pass *filters*."""
    # Half the digits to send and parse, and more than PostgreSQL keeps of a halfvec.
    vector = np.round(query.vector.astype(np.float64), 6).tolist()
    return VectorQuery(vector, query.words, filters, query.exclude)
