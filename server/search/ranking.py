"""The order of what a search finds, and its pages: never short, and the same on every server.

A search begins in one of two ways. Where few images come into question, all are compared with the query, exactly. Where
many do, the index ranks the nearest of them. How it goes on is up to the cursor:

- ``exact``, behind a distance and an id: all are compared again. That order is total, and needs no memory.
- ``shown``, for what cannot be continued so: the ranking is made once more, without what the first page showed, and
  kept in the database as a *walk*. Continuing by distance over the index would skip images, and an order that was mixed
  from two shifts with every image that arrives.
- ``walk``, behind a position of a kept ranking.
"""

from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from itertools import groupby
from typing import Any
from uuid import NAMESPACE_URL, UUID, uuid5

from server.cache.pages import KeptPages
from server.schemas.errors import Problem
from server.search.query import Query
from shared.db.pool import Connection
from shared.models import Collection, Filters, Hit, Ranking, TextMatch
from shared.sql import next_embeddings, text_matches, vector_search
from shared.sql.filters import EVERYTHING

# Up to here all vectors are compared with the query, and a walk goes to the end.
EXACT_UP_TO = 40_000
# Beyond it a walk is this long.
DEPTH = 2_000
# So long a walk is kept, and so many of a collection.
LIFETIME = timedelta(hours=1)
WALKS = 500

# The constant of reciprocal rank fusion: Cormack, Clarke and Büttcher 2009 (SIGIR, "Reciprocal Rank Fusion outperforms
# Condorcet and individual Rank Learning Methods").
K = 60

# What a folder's name counts where an image's own counts 1.
FOLDER = 0.1

Position = list[Any]


@dataclass(frozen=True)
class Search:
    """One search in one collection. ``threshold`` is the score below which a match is weak, if that is known; with
    ``strict`` there are none of these. ``embedded`` is about how many images have a vector.
    """

    collection: Collection
    query: Query
    filters: Filters
    threshold: float | None
    strict: bool
    embedded: int

    async def page(
        self, kept: KeptPages, position: Position | None, cursor: str | None, *, limit: int
    ) -> tuple[list[Hit], Position | None]:
        """Return the *limit* hits from *position* on, which *cursor* holds, and the position behind them, if any."""
        match position:
            case None:
                return await kept.read(self._asked(limit, None), lambda conn: self._first(conn, limit))
            case ["exact", distance, image_id]:
                after = (float(distance), int(image_id))
                asked = self._asked(limit, after)
                return await kept.read(asked, lambda conn: self._compared(conn, limit, after))
            case ["shown", ids]:
                walk = uuid5(NAMESPACE_URL, cursor or "")
                return await kept.database.run(lambda conn: self._rest(conn, limit, walk, ids))
            case ["walk", walk, last]:
                return await kept.database.run(lambda conn: self._kept(conn, limit, UUID(walk), last))
        raise Problem(400, "cursor is from another version of Image Browser: search again")

    def _asked(self, limit: int, after: tuple[float, int] | None) -> Hashable:
        """Return what a page depends on."""
        return self.collection, self.query.identity, self.filters, self.threshold, self.strict, limit, after

    async def _first(self, conn: Connection, limit: int) -> tuple[list[Hit], Position | None]:
        few, named = await self._begin(conn)
        if few and not named:
            return await self._compared(conn, limit, None)
        depth = max(DEPTH, limit + 1) if named else min(DEPTH, limit + 1)
        ranking = await self._ranked(conn, named, depth=depth, few=few)
        hits = await vector_search.hits(conn, self.collection, ranking, limit=limit)
        return hits, ["shown", [hit.image.id for hit in hits]] if len(ranking.ids) > limit else None

    async def _rest(
        self, conn: Connection, limit: int, walk: UUID, shown: list[int]
    ) -> tuple[list[Hit], Position | None]:
        if await vector_search.ranking_page(conn, self.collection, walk, after=0, limit=1) is None:
            few, named = await self._begin(conn)
            ranking = await self._ranked(conn, named, depth=EXACT_UP_TO if few else DEPTH, few=few)
            now = datetime.now(UTC)
            await vector_search.prune_rankings(conn, self.collection, before=now - LIFETIME, keep=WALKS)
            await vector_search.save_ranking(conn, self.collection, walk, _without(ranking, shown), now=now)
        return await self._kept(conn, limit, walk, 0)

    async def _kept(self, conn: Connection, limit: int, walk: UUID, last: int) -> tuple[list[Hit], Position | None]:
        found = await vector_search.ranking_page(conn, self.collection, walk, after=last, limit=limit)
        if found is None:
            raise Problem(400, "cursor is too old: its ranking is no longer kept; search again")
        hits, position = found
        return hits, ["walk", str(walk), position] if position else None

    async def _compared(
        self, conn: Connection, limit: int, after: tuple[float, int] | None
    ) -> tuple[list[Hit], Position | None]:
        found = await vector_search.exact(
            conn,
            self.collection,
            self.query.vector.tolist(),
            self.filters,
            limit=limit + 1,
            after=after,
            leave_out=self.query.leave_out,
            lowest=self.threshold if self.strict else None,
        )
        hits = [hit for hit, _ in found[:limit]]
        return hits, ["exact", found[limit - 1][1], hits[-1].image.id] if len(found) > limit else None

    async def _begin(self, conn: Connection) -> tuple[bool, list[int]]:
        """Return whether few images come into question, and the ids of those that are called like the query."""
        named = []
        if self.query.words:
            named = await text_matches.find(
                conn, self.collection, self.query.words, self.filters, leave_out=self.query.leave_out
            )
        few = self.embedded <= EXACT_UP_TO
        if not few and self.filters != EVERYTHING:
            few = await vector_search.are_few(conn, self.collection, self.filters, at_most=EXACT_UP_TO)
        return few, named

    async def _ranked(self, conn: Connection, named: list[int], *, depth: int, few: bool) -> Ranking:
        """Return the *depth* images nearest to the query, with those that are called like it in their places."""
        vector = self.query.vector.tolist()
        wanted = conn, self.collection, vector, self.filters
        visual = None
        async with conn.transaction():
            await next_embeddings.check_model(conn, self.collection)
            if not few:
                visual = await vector_search.nearest_by_hnsw(
                    *wanted, candidates=DEPTH, limit=depth, leave_out=self.query.leave_out
                )
            if visual is None:
                visual = await vector_search.nearest(*wanted, limit=depth, leave_out=self.query.leave_out)
            called = (
                await text_matches.weigh(conn, self.collection, self.query.words or "", vector, named) if named else []
            )
        return fused(visual, called, threshold=self.threshold, strict=self.strict)


def fused(visual: Ranking, named: Sequence[TextMatch], *, threshold: float | None, strict: bool) -> Ranking:
    """Return one ranking of what looks like a query and what is called like it, by reciprocal rank fusion.

    Images whose very name was asked for come first, weak ones last (or not at all, if *strict*); an image that only its
    folder brings in comes behind those that look like the query. Images that are named equally well share the mean of
    their ranks, so that a word which names one image moves it far, and one that names hundreds moves each but a little.
    """
    scores = dict(zip(visual.ids, visual.scores, strict=True)) | {image.id: image.score for image in named}
    points = dict.fromkeys(scores, 0.0)
    for rank, image_id in enumerate(visual.ids[:DEPTH], start=1):
        points[image_id] += 1 / (K + rank)
    better = 0
    for (_, own), equals in groupby(sorted(named, key=_how_well, reverse=True), _how_well):
        tied = [image.id for image in equals]
        for image_id in tied:
            points[image_id] += (1 if own else FOLDER) / (K + better + (len(tied) + 1) / 2)
        better += len(tied)
    tiers = dict.fromkeys(scores, LOOKS_LIKE_IT)
    if threshold is not None:
        tiers |= {image_id: WEAK for image_id, score in scores.items() if score is None or score < threshold}
    for image in named:
        tiers[image.id] = EXACT if image.exact else LOOKS_LIKE_IT if image.own else min(tiers[image.id], IN_FOLDER)
    # Sorting is stable: images without points keep their order.
    order = sorted(scores, key=lambda image_id: (tiers[image_id], -points[image_id]))
    if strict:
        order = [image_id for image_id in order if tiers[image_id] < WEAK]
    return Ranking(order, [scores[image_id] for image_id in order], [image.id for image in named])


# In which order a ranking has its images, whatever their points.
EXACT, LOOKS_LIKE_IT, IN_FOLDER, WEAK = range(4)


def _how_well(image: TextMatch) -> tuple[bool, bool]:
    return image.exact, image.own or image.exact


def _without(ranking: Ranking, shown: list[int]) -> Ranking:
    gone = frozenset(shown)
    kept = [
        (image_id, score) for image_id, score in zip(ranking.ids, ranking.scores, strict=True) if image_id not in gone
    ]
    return Ranking([image_id for image_id, _ in kept], [score for _, score in kept], ranking.named)
