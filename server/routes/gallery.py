"""The gallery: one page, whose state is all in its address."""

from collections.abc import Sequence
from dataclasses import asdict, replace
from functools import partial
from typing import Any
from urllib.parse import urlencode

from starlette.datastructures import QueryParams
from starlette.requests import Request
from starlette.responses import Response

from server.access import COOKIE
from server.cache import stats_feed
from server.context import AppContext, app_context
from server.request_body import QUERY_IMAGE
from server.routes.collections import summaries
from server.schemas import errors, requests, responses
from server.search import query_builder, service
from server.search.query import Term
from server.search.service import Page
from shared.models import Collection
from shared.sql import images

FILTERS = (*requests.FilterFields.model_fields, "strict")
STATE = ("bucket", "q", "term", "similar", "view", *FILTERS)  # what a page's address can hold


async def show_gallery(request: Request) -> Response:
    """GET /: recent images, what a text finds (``q``), or an image's neighbours (``similar``)."""
    app = app_context(request)
    query = request.query_params
    context: dict[str, Any] = {
        "collections": [],
        "collection": None,
        "q": query.get("q", "").strip()[: requests.MAX_QUERY_LENGTH],
        "terms": [],
        "similar": None,
        "filters": {name: query[name] for name in FILTERS if query.get(name)},
        "facets": None,
        "images": [],
        "next_page": None,
        "stats": None,
        "stream_url": None,
        "notice": None,
        "error": None,
        "status": 200,
        "static": request.app.state.assets.address,
        "page_url": partial(page_url, query),
        "signed_in": COOKIE in request.cookies,
        "largest_picture": QUERY_IMAGE.max_bytes,
    }
    try:
        context["collections"] = await summaries(app)
        if context["collections"]:
            collection = await app.collection(query.get("bucket"))
            await _fill(context, app, collection, request)
    except Exception as exc:
        problem = errors.problem_of(exc)
        if problem.status == 500:
            raise
        context |= {"status": problem.status, "error": problem.detail}
    response: Response = request.app.state.templates.TemplateResponse(
        request, "gallery.html", context, status_code=context["status"]
    )
    return response


async def _fill(context: dict[str, Any], app: AppContext, collection: Collection, request: Request) -> None:
    query = request.query_params
    context["collection"] = next(c for c in context["collections"] if c["bucket"] == collection.bucket)
    context["stats"] = await app.database.read(lambda conn: stats_feed.read(conn, collection))
    context["stream_url"] = "/api/stats/stream?" + urlencode({"bucket": collection.bucket})
    context["notice"] = app.notice(collection)
    asked = requests.parse(requests.GalleryQuery, request)
    if "choices" in query:
        context["facets"] = await app.facets.of(app.database, collection, asked.filters().folder)
    context["terms"] = await _chips(app, collection, asked.terms()[1 if asked.q else 0 :])
    page = await _page(context, app, collection, asked)
    context["images"] = page.images
    if page.next_cursor:
        context["next_page"] = page_url(query, cursor=page.next_cursor)


async def _page(context: dict[str, Any], app: AppContext, collection: Collection, asked: requests.GalleryQuery) -> Page:
    """Return the first page of what the address asks for."""
    filters, limit, cursor = asked.filters(), asked.limit, asked.cursor
    if asked.similar:
        image = await service.the_image(app, collection, requests.parse_image_id(asked.similar))
        context["similar"] = responses.image_item(image, app.store(collection.bucket))
        query = await service.similar_query(app, collection, image)
    elif terms := asked.terms():
        query = await query_builder.query_of(app, collection, terms, name="term")
    else:
        return await service.recent(app, collection, filters, limit=limit, cursor=cursor)
    return await service.ranked(app, collection, query, filters, strict=asked.strict, limit=limit, cursor=cursor)


async def _chips(app: AppContext, collection: Collection, terms: Sequence[Term]) -> list[dict[str, Any]]:
    """Return what the page shows of each term: the term, its image if it is one of the collection, and what remains of
    all terms when this one is turned to the other side, or removed.
    """
    ids = [int(term.value) for term in terms if term.kind == "image"]
    found = await app.database.read(images.get_many, collection=collection, ids=ids) if ids else []
    store = app.store(collection.bucket)
    shown = {str(image.id): responses.image_item(image, store) for image in found}
    written = [str(term) for term in terms]
    return [
        asdict(term)
        | {
            "written": written[at],
            "image": shown.get(term.value) if term.kind == "image" else None,
            "turned": [*written[:at], str(replace(term, weight=-term.weight)), *written[at + 1 :]],
            "removed": [*written[:at], *written[at + 1 :]],
        }
        for at, term in enumerate(terms)
    ]


def page_url(current: QueryParams, /, **changes: str | Sequence[str] | None) -> str:
    """Return the address of the page with *changes*; None removes a part of it, a sequence writes it several times."""
    kept = {name: [value for value in current.getlist(name) if value] for name in STATE}
    # The short form of a search for one picture.
    kept["term"] = [*(f"query_image:{handle}" for handle in current.getlist("query_image") if handle), *kept["term"]]
    query = urlencode({name: value for name, value in (kept | changes).items() if value}, doseq=True)
    return f"/?{query}" if query else "/"
