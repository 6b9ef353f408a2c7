"""Failed images: a page, their list in the API, and their retry."""

from urllib.parse import urlencode

from starlette.requests import Request
from starlette.responses import RedirectResponse, Response

from server import failures, pages
from server.access import COOKIE
from server.context import AppContext, app_context
from server.failures import MAX_LISTED, FailedItem
from server.schemas import requests, responses
from server.schemas.openapi import Operation
from server.schemas.requests import CollectionQuery, RetryQuery
from server.schemas.responses import FailureItem, FailureList, FastJSONResponse, RetryResult
from shared.models import Collection


async def show_failures(request: Request) -> Response:
    """GET /failures: the failures of a collection, with buttons for those who may write."""
    query = requests.parse(CollectionQuery, request)
    context = app_context(request)
    collection = await context.collection(query.bucket)
    variables = {
        "collection": collection,
        "failures": await _items(collection, context),
        "failed": (await context.stats_feed.current(collection))["failed"],
        "limit": MAX_LISTED,
        "may_write": await _may_write(request, context, collection),
    }
    return pages.render(request, "failures.html", variables)


@Operation(query=CollectionQuery, response=FailureList)
async def list_failures(request: Request) -> Response:
    """GET /api/failures: images that could not be indexed, and files that could not become images."""
    query = requests.parse(CollectionQuery, request)
    context = app_context(request)
    return FastJSONResponse({"failures": await context.with_collection(query.bucket, _items, context)})


@Operation(query=RetryQuery, response=RetryResult, errors=(400, 401, 403, 404, 429, 503), writes=True)
async def retry_failures(request: Request) -> Response:
    """POST /api/failures/retry: queue failed images again, all or only `key`.

    A syncer then embeds them; the next sync reads rejected files again. A browser is redirected to the page of
    failures.
    """
    query = requests.parse(RetryQuery, request)
    context = app_context(request)
    retried = await context.with_collection(query.bucket, failures.retry, context, query.key)
    if "text/html" in request.headers.get("Accept", ""):
        collection = await context.collection(query.bucket)
        return RedirectResponse(f"/failures?{urlencode({'bucket': collection.bucket})}", status_code=303)
    return FastJSONResponse({"retried": retried})


async def _items(collection: Collection, context: AppContext) -> list[FailureItem]:
    return [_item(each, collection, context) for each in await failures.read(collection, context)]


def _item(item: FailedItem, collection: Collection, context: AppContext) -> FailureItem:
    failure, image = item.failure, item.image
    return {
        "key": failure.key,
        "reason": failure.reason,
        "detail": failure.detail,
        "attempts": failure.attempts,
        "failed_at": failure.failed_at.isoformat(),
        "image": responses.image_item(image, context.stores.get(collection.bucket)) if image else None,
    }


async def _may_write(request: Request, context: AppContext, collection: Collection) -> bool:
    """Return whether the browser is signed in with a token that may write."""
    cookie = request.cookies.get(COOKIE)
    access = await context.tokens.access_of_session(cookie) if cookie else None
    return access is not None and access.writes and access.sees(collection.bucket)
