"""The images of a selection: those with given ids, or all of a list."""

import sys
from collections.abc import AsyncIterator, Sequence
from dataclasses import replace

from server.context import AppContext
from server.schemas.requests import MAX_LIMIT, SelectionBody, date_sort
from server.search.service import ImageList, PageRequest, SearchResults
from shared.models import Collection, Hit


async def pages(context: AppContext, bucket: str, selected: SelectionBody) -> AsyncIterator[Sequence[Hit]]:
    """Yield the selected images, in the order of the ids or of the list; raise what the list would raise.

    Images have a score if the selection has a query and they a vector.
    """
    if selected.ids:
        for start in range(0, len(selected.ids), MAX_LIMIT):
            ids = selected.ids[start : start + MAX_LIMIT]
            yield _hits(await context.with_collection(bucket, _by_ids, context, selected, ids))
        return
    page = PageRequest(0, None, selected.filters(), selected.strict, date_sort(selected.sort))
    missing = selected.limit or sys.maxsize
    while missing > 0:
        page = replace(page, limit=min(missing, MAX_LIMIT))
        found = await context.with_collection(bucket, _listed, context, selected, page)
        yield _hits(found)
        if found.next_cursor is None:
            return
        missing -= len(_hits(found))
        page = replace(page, cursor=found.next_cursor)


async def _by_ids(
    collection: Collection, context: AppContext, selected: SelectionBody, ids: Sequence[int]
) -> ImageList | SearchResults:
    read = await context.query_reader.read(collection, selected.typed(), PageRequest(len(ids)))
    if read.terms:
        return await context.search.score(collection, read.terms, ids)
    return await context.search.by_ids(collection, ids)


async def _listed(
    collection: Collection, context: AppContext, selected: SelectionBody, page: PageRequest
) -> ImageList | SearchResults:
    if selected.similar:
        return await context.search.similar(collection, selected.similar, page)
    read = await context.query_reader.read(collection, selected.typed(), page)
    return await context.search.search(collection, read.terms, read.page)


def _hits(found: ImageList | SearchResults) -> Sequence[Hit]:
    return found.hits if isinstance(found, SearchResults) else [Hit(image, None) for image in found.images]
