"""The lists of images that the API and the gallery share: by date, search results, similar images."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

from server.cache.collection_cache import CollectionCache
from server.problem import Problem
from server.search.cursor import Cursors
from server.search.query import QueryBuilder
from server.search.ranking import RankedSearch, vector_query
from server.search.relevance import Relevance
from server.search.terms import Term
from shared.db.pool import Database
from shared.models import MAX_ID, Collection, Facets, Filters, Hit, Image, MonthCount, Sort
from shared.sql import images, texts, vector_search
from shared.sql.filters import EVERYTHING


@dataclass(frozen=True)
class PageRequest:
    """Size, start and filters of a page. ``strict`` leaves weak matches out of search results.

    Without ``sort``, searches are ordered by relevance and other lists are newest first. A list by date taken can start
    at a ``month``, such as ``2024-05`` or ``undated``.
    """

    limit: int
    cursor: str | None = None
    filters: Filters = EVERYTHING
    strict: bool = False
    sort: Sort | None = None
    month: str | None = None


@dataclass(frozen=True)
class ImageList:
    """A page of a list of images. ``next_cursor`` is None at the end, ``previous_cursor`` at the start or if the page
    was reached from there.
    """

    bucket: str
    images: Sequence[Image]
    next_cursor: str | None
    previous_cursor: str | None = None


@dataclass(frozen=True)
class TimelineMonth:
    """A month in which images were taken, ``2024-05``, or None for those without a date.

    ``cursor`` continues the list at the first image of the month.
    """

    month: str | None
    count: int
    cursor: str


@dataclass(frozen=True)
class SearchResults:
    """A page of search results, best first. Hits that score below ``threshold`` are weak; None if it is unknown."""

    bucket: str
    hits: Sequence[Hit]
    threshold: float | None
    next_cursor: str | None


@dataclass(frozen=True)
class ImageRecord:
    """An image with its metadata: EXIF, keywords, origin, failure."""

    bucket: str
    image: Image
    metadata: dict[str, Any]


@dataclass(frozen=True)
class SearchService:
    """Searches and lists of images, for parsed requests and in plain values.

    Every method raises ModelChanged or psycopg's UndefinedTable when its collection is stale.
    """

    database: Database
    collections: CollectionCache
    query_builder: QueryBuilder
    relevance: Relevance
    cursors: Cursors

    async def list_images(self, collection: Collection, page: PageRequest) -> ImageList:
        """Return images by date, embedded or not."""
        scope = _list_scope(collection, page)
        position = await self.cursors.verify(scope, page.cursor or await self._month_cursor(collection, page))
        place = _place(position) if position else None
        if place and position[2:] == ["previous"]:
            return await self._previous(collection, page, place)
        found = await self._sorted(collection, page, limit=page.limit + 1, after=place)
        shown = found[: page.limit]
        next_position = _position(shown[-1], page) if len(found) > page.limit else None
        is_jump = position and position[2:] == ["month"] and shown
        previous_position = [*_position(shown[0], page), "previous"] if is_jump else None
        return ImageList(
            collection.bucket,
            shown,
            await self.cursors.sign(scope, next_position),
            await self.cursors.sign(scope, previous_position),
        )

    async def around(self, collection: Collection, image_id: int, page: PageRequest) -> ImageList:
        """Return the page of images by date with one in its middle; raise a 404 for an unknown image."""
        image = await self.image(collection, image_id)
        place = _place(_position(image, page))
        before, after = page.limit // 2, (page.limit - 1) // 2
        previous = await self._previous(collection, replace(page, limit=before), place) if before else None
        found = await self._sorted(collection, page, limit=after + 1, after=place)
        shown = [*(previous.images if previous else ()), image, *found[:after]]
        next_position = _position(shown[-1], page) if len(found) > after else None
        next_cursor = await self.cursors.sign(_list_scope(collection, page), next_position)
        return ImageList(collection.bucket, shown, next_cursor, previous.previous_cursor if previous else None)

    async def _previous(self, collection: Collection, page: PageRequest, place: images.Place) -> ImageList:
        """Return the page of images by date that ends before *place*."""
        found = await self._sorted(collection, page, limit=page.limit + 1, before=place)
        shown = found[-page.limit :]
        previous_position = [*_position(shown[0], page), "previous"] if len(found) > page.limit else None
        previous_cursor = await self.cursors.sign(_list_scope(collection, page), previous_position)
        return ImageList(collection.bucket, shown, None, previous_cursor)

    async def _sorted(self, collection: Collection, page: PageRequest, **place: Any) -> list[Image]:
        return await self.database.read(
            images.list_sorted, collection, page.filters, sort=page.sort or "-created", **place
        )

    async def timeline(self, collection: Collection, page: PageRequest) -> list[TimelineMonth]:
        """Return the months in which images were taken, in the order of the page, those without a date last."""
        months = await self.collections.timeline(collection, page.filters)
        if page.sort == "taken":
            months = [*(each for each in months[::-1] if each.month), *(each for each in months if not each.month)]
        scope = _list_scope(collection, page)
        return [TimelineMonth(each.month, each.count, await self._start(scope, each, page)) for each in months]

    async def _month_cursor(self, collection: Collection, page: PageRequest) -> str | None:
        """Return the cursor to the first month of the timeline that does not precede the month of the page."""
        if page.month is None or page.sort not in ("-taken", "taken"):
            return None
        for each in await self.timeline(collection, page):
            if each.month is None or (page.month != "undated" and _follows(each.month, page.month, page.sort)):
                return each.cursor
        return None

    async def _start(self, scope: str, month: MonthCount, page: PageRequest) -> str:
        """Return the cursor of the list *scope* whose first image is the first of *month*."""
        time, image_id = (month.first, 0) if page.sort == "taken" else (month.last, MAX_ID)
        cursor = await self.cursors.sign(scope, [time.isoformat() if time else None, image_id, "month"])
        assert cursor
        return cursor

    async def search(
        self, collection: Collection, terms: Sequence[Term], page: PageRequest, *, name: str = "term"
    ) -> SearchResults:
        """Return the images nearest to the sum of *terms*, which error messages call *name*; without terms, by date."""
        if not terms:
            listed = await self.list_images(collection, page)
            return SearchResults(
                collection.bucket, [Hit(image, None) for image in listed.images], None, listed.next_cursor
            )
        query = await self.query_builder.build(collection, terms, name=name)
        scope = f"{collection.bucket} {collection.model} {query.scope} {page.filters} {page.strict} {page.sort}"
        position = await self.cursors.verify(scope, page.cursor)
        threshold = await self.relevance.threshold(collection, query)
        embedded = await self.collections.embedded(collection)
        ranked = RankedSearch(collection, query, page.filters, threshold, page.strict, embedded, page.sort)
        hits, next_position = await ranked.page(self.database, position, page.cursor, limit=page.limit)
        return SearchResults(collection.bucket, hits, threshold, await self.cursors.sign(scope, next_position))

    async def facets(
        self, collection: Collection, terms: Sequence[Term], filters: Filters, *, similar: int | None = None
    ) -> Facets:
        """Return the values that filters can take, counted among all images, or among the strong matches of a search.

        If no match is strong, all images are counted.
        """
        if similar:
            terms = await self._similar_terms(collection, similar)
        if terms:
            query = await self.query_builder.build(collection, terms, name="term")
            threshold = await self.relevance.threshold(collection, query)
            if threshold is not None:
                strong = vector_search.strong(collection, vector_query(query), threshold)
                found = await self.collections.facets(collection, filters, strong, f"{collection.model} {query.scope}")
                if found.cameras or found.folders or found.types:
                    return found
        return await self.collections.facets(collection, filters)

    async def score(self, collection: Collection, terms: Sequence[Term], ids: Sequence[int]) -> SearchResults:
        """Return the images with these ids, in this order, with their scores for the sum of *terms*."""
        query = await self.query_builder.build(collection, terms, name="term")
        hits = await self.database.run(vector_search.score, collection, query.vector.tolist(), ids)
        return SearchResults(collection.bucket, hits, None, None)

    async def keywords(self, collection: Collection, ids: Sequence[int]) -> dict[int, list[str]]:
        """Return the keywords of images by their ids."""
        return await self.database.read(images.keywords, collection, ids)

    async def similar(self, collection: Collection, image_id: int, page: PageRequest) -> SearchResults:
        """Return the images that look like one, without itself; none before it is embedded.

        Raises a 404 for an unknown image.
        """
        if terms := await self._similar_terms(collection, image_id):
            return await self.search(collection, terms, page)
        return SearchResults(collection.bucket, [], None, None)

    async def _similar_terms(self, collection: Collection, image_id: int) -> list[Term]:
        """Return the terms of the search for images that look like one; none before it is embedded."""
        image = await self.image(collection, image_id)
        return [Term("image", str(image_id))] if image.status == "embedded" else []

    async def image(self, collection: Collection, image_id: int) -> Image:
        """Return an image; raise a 404 that names it."""
        found = await self.database.run(images.get, collection, image_id)
        if found is None:
            raise Problem(404, f"there is no image {image_id} in the collection {collection.bucket!r}")
        return found

    async def record(self, collection: Collection, image_id: int) -> ImageRecord:
        """Return an image with its metadata; raise a 404 that names it."""
        image = await self.image(collection, image_id)
        metadata = await self.database.read(images.details, collection, image_id) or {}
        metadata["texts"] = await self.database.read(texts.read, collection, image_id) if collection.ocr else []
        return ImageRecord(collection.bucket, image, metadata)

    async def latest_of_each(self, collections: Sequence[Collection]) -> list[ImageList]:
        """Return for each of the collections, unless dropped meanwhile, a list of the image added last."""
        found = await self.database.read(images.latest_of_each, collections)
        return [ImageList(collection.bucket, latest, None) for collection, latest in found.items()]

    async def by_ids(self, collection: Collection, ids: Sequence[int]) -> ImageList:
        """Return the images with these ids, in this order; those that do not exist are left out."""
        found = await self.database.read(images.get_many, collection, ids) if ids else []
        return ImageList(collection.bucket, found, None)


def _list_scope(collection: Collection, page: PageRequest) -> str:
    return f"images {collection.bucket} {page.filters} {page.sort or '-created'}"


def _follows(month: str, start: str, sort: Sort) -> bool:
    return month <= start if sort == "-taken" else month >= start


def _position(image: Image, page: PageRequest) -> list[Any]:
    """Return the place of an image in a list by date, as cursors contain it."""
    time = image.time(page.sort or "-created")
    return [time.isoformat() if time else None, image.id]


def _place(position: Sequence[Any]) -> images.Place:
    time, image_id = position[:2]
    return datetime.fromisoformat(time) if time else None, int(image_id)
