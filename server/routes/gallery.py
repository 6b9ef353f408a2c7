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
from server.context import AppContext, app_context
from server.request_body import QUERY_IMAGE
from server.routes.collections import summaries
from server.schemas import errors, requests, responses
from server.schemas.responses import HitPage, ImagePage
from server.search.terms import Term
from shared.models import Collection

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
            await app.with_collection(query.get("bucket"), _fill, context, app, request)
    except Exception as exc:
        problem = errors.problem_of(exc)
        if problem.status == 500:
            raise
        context |= {"status": problem.status, "error": problem.detail}
    response: Response = request.app.state.templates.TemplateResponse(
        request, "gallery.html", context, status_code=context["status"]
    )
    return response


async def _fill(collection: Collection, context: dict[str, Any], app: AppContext, request: Request) -> None:
    query = request.query_params
    context["collection"] = next(c for c in context["collections"] if c["bucket"] == collection.bucket)
    context["stats"] = await app.stats_feed.current(collection)
    context["stream_url"] = "/api/stats/stream?" + urlencode({"bucket": collection.bucket})
    embedder = app.embedders.find(collection)
    context["notice"] = embedder.notice if embedder else None
    asked = requests.parse(requests.GalleryQuery, request)
    if "choices" in query:
        context["facets"] = await app.facets.get(collection, asked.filters().folder)
    context["terms"] = await _chips(app, collection, asked.terms()[1 if asked.q else 0 :])
    page = await _page(context, app, collection, asked)
    context["images"] = page["images"]
    if page["next_cursor"]:
        context["next_page"] = page_url(query, cursor=page["next_cursor"])


async def _page(
    context: dict[str, Any], app: AppContext, collection: Collection, asked: requests.GalleryQuery
) -> ImagePage | HitPage:
    """Return the first page of what the address asks for."""
    filters, limit, cursor = asked.filters(), asked.limit, asked.cursor
    if asked.similar:
        image_id = requests.parse_image_id(asked.similar)
        image = await app.search.image(collection, image_id)
        context["similar"] = responses.image_item(image, app.stores.get(collection.bucket))
        similar = await app.search.similar(
            collection, image_id, filters, strict=asked.strict, limit=limit, cursor=cursor
        )
        return responses.hit_page(similar, app.stores)
    if terms := asked.terms():
        found = await app.search.search(collection, terms, filters, strict=asked.strict, limit=limit, cursor=cursor)
        return responses.hit_page(found, app.stores)
    recent = await app.search.recent(collection, filters, limit=limit, cursor=cursor)
    return responses.image_page(recent, app.stores)


async def _chips(app: AppContext, collection: Collection, terms: Sequence[Term]) -> list[dict[str, Any]]:
    """Return what the page shows of each term: the term, its image if it is one of the collection, and what remains of
    all terms when this one is turned to the other side, or removed.
    """
    ids = [int(term.value) for term in terms if term.kind == "image"]
    found = responses.image_page(await app.search.by_ids(collection, ids), app.stores)
    shown = {str(image["id"]): image for image in found["images"]}
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
