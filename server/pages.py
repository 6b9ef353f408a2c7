"""The gallery: one page, whose state is all in its address."""

from typing import Any
from urllib.parse import urlencode

from starlette.requests import Request
from starlette.responses import Response
from starlette.templating import Jinja2Templates

from server import lists, parameters, presenting, problems, stats
from server.api.collections import summaries
from server.lists import Page
from server.services import Services, services
from shared.model import Collection

FILTERS = (*parameters.FilterFields.model_fields, "strict")
STATE = ("bucket", "q", "similar", "view", *FILTERS)  # what a page's address can hold


async def gallery(request: Request) -> Response:
    """GET /: recent images, what a text finds (``q``), or an image's neighbours (``similar``)."""
    app = services(request)
    query = request.query_params
    context: dict[str, Any] = {
        "collections": [],
        "collection": None,
        "q": query.get("q", "").strip()[: parameters.MAX_QUERY],
        "similar": None,
        "images": [],
        "next_url": None,
        "next_page": None,
        "stats": None,
        "stream_url": None,
        "notice": None,
        "error": None,
        "static": request.app.state.assets.address,
        "page_url": lambda **changes: page_url(dict(query), changes),
    }
    status = 200
    try:
        context["collections"] = await summaries(app)
        if context["collections"]:
            collection = await app.collection(query.get("bucket"))
            await _fill(context, app, collection, request)
    except Exception as exc:
        problem = problems.from_exception(exc)
        if problem.status == 500:
            raise
        status, context["error"] = problem.status, problem.detail
    return templates(request).TemplateResponse(request, "gallery.html", context, status_code=status)


async def _fill(context: dict[str, Any], app: Services, collection: Collection, request: Request) -> None:
    query = request.query_params
    context["collection"] = next(c for c in context["collections"] if c["bucket"] == collection.bucket)
    context["stats"] = await app.database.run(lambda conn: stats.read(conn, collection))
    context["stream_url"] = "/api/stats/stream?" + urlencode({"bucket": collection.bucket})
    context["notice"] = app.notice(collection)
    address, state, page = await _page(context, app, collection, request)
    context["images"] = page.images
    if page.next_cursor:
        context["next_url"] = f"{address}?{urlencode(state | {'cursor': page.next_cursor})}"
        context["next_page"] = page_url(dict(query), {"cursor": page.next_cursor})


async def _page(
    context: dict[str, Any], app: Services, collection: Collection, request: Request
) -> tuple[str, dict[str, str], Page]:
    """Return the list that the page shows: its address in the API, its parameters, its first page."""
    asked = parameters.read(parameters.Gallery, request.query_params)
    filters, limit, cursor = asked.filters(), asked.limit, asked.cursor
    state = {"bucket": collection.bucket} | {
        name: value for name, value in request.query_params.items() if name in FILTERS and value
    }
    if asked.similar:
        image = await lists.the_image(app, collection, parameters.image_id(asked.similar))
        context["similar"] = presenting.image(image, app.store(collection.bucket))
        address, query = f"/api/images/{image.id}/similar", await lists.similar_query(app, collection, image)
    elif asked.q:
        address, query = "/api/search", await lists.text_query(app, collection, asked.q)
        state["q"] = asked.q
    else:
        return "/api/images", state, await lists.recent(app, collection, filters, limit=limit, cursor=cursor)
    page = await lists.ranked(app, collection, query, filters, strict=asked.strict, limit=limit, cursor=cursor)
    return address, state, page


def page_url(current: dict[str, str], changes: dict[str, Any]) -> str:
    """Return the address of the page with *changes*; None removes a part of it."""
    kept = {name: value for name, value in current.items() if name in STATE} | changes
    query = urlencode({name: value for name, value in kept.items() if value not in (None, "")})
    return f"/?{query}" if query else "/"


def templates(request: Request) -> Jinja2Templates:
    """Return the templates of the process."""
    found = request.app.state.templates
    assert isinstance(found, Jinja2Templates)
    return found
