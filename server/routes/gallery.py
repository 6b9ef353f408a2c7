"""The gallery: one page, whose state is all in its URL."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from typing import Any
from urllib.parse import urlencode, urljoin

from starlette.datastructures import QueryParams
from starlette.requests import Request
from starlette.responses import Response

from server import pages
from server.access import COOKIE
from server.context import AppContext, app_context
from server.query_language.parser import without
from server.request_body import QUERY_IMAGE
from server.schemas import errors, requests, responses
from server.schemas.requests import FilterFields, GalleryQuery
from server.schemas.responses import HitPage, ImagePage, SearchPage, UnderstoodPart
from server.search.terms import Term
from shared.colours import COLOURS
from shared.models import Collection

FILTERS = (*FilterFields.model_fields, "strict")
# Parameters of the page's URL.
STATE = ("bucket", "q", "literal", "parse", "term", "similar", "sort", "month", "view", *FILTERS)

TemplateVariables = dict[str, Any]


async def show_gallery(request: Request) -> Response:
    """GET /: recent images, search results (``q``, ``term``), or the neighbours of an image (``similar``)."""
    context = app_context(request)
    page = _empty_page(request)
    page["can_sign_in"] = context.tokens.can_write
    try:
        counts = await context.counts()
        page["collections"] = responses.sorted_by_name(responses.collection_list(counts))
        if counts:
            await context.with_collection(request.query_params.get("bucket"), _fill, page, context, request)
    except errors.HANDLED as exc:
        problem = errors.problem_of(exc)
        page |= {"status": problem.status, "error": problem.detail}
    return pages.render(request, "gallery.html", page, status_code=page["status"])


def _empty_page(request: Request) -> TemplateVariables:
    """Return the variables of a page without a collection."""
    query = request.query_params
    filters = _filter_values(query)
    return {
        "collections": [],
        "collection": None,
        "q": query.get("q", "").strip()[: requests.MAX_QUERY_LENGTH],
        "literal": _literal_variables(query),
        "understood": None,
        "parse_off": query.get("parse") == "0",
        "terms": [],
        "similar": None,
        "viewed": None,
        "sort": query.get("sort"),
        "filters": {each["name"]: each["value"] for each in filters},
        "filter_values": filters,
        "facets": None,
        "colours": COLOURS,
        "images": [],
        "next_page": None,
        "previous_cursor": None,
        "stats": None,
        "stream_url": None,
        "notice": None,
        "live_search": False,
        "error": None,
        "status": 200,
        "absolute_url": lambda url: urljoin(str(request.base_url), url),
        "page_url": lambda **changes: page_url(query, **changes),
        "signed_in": COOKIE in request.cookies,
        "may_write": False,
        "max_query_image_bytes": QUERY_IMAGE.max_bytes,
    }


async def _fill(collection: Collection, page: TemplateVariables, context: AppContext, request: Request) -> None:
    """Set the variables that depend on the collection, first those of the header: an error page shows them too."""
    page["collection"] = collection
    if cookie := request.cookies.get(COOKIE):
        access = await context.tokens.access_of_session(cookie)
        page["may_write"] = access is not None and access.writes and access.sees(collection.bucket)
    page["stats"] = await context.stats_feed.current(collection)
    page["stream_url"] = "/api/stats/stream?" + urlencode({"bucket": collection.bucket})
    embedder = context.embedders.find(collection)
    page["live_search"] = context.texts_are_free(collection)
    page["notice"] = embedder.notice if embedder else None
    query = requests.parse(GalleryQuery, request)
    if "options" in request.query_params:
        read = await context.query_reader.read(collection, query.typed(), query.page())
        page["facets"] = await context.search.facets(collection, read.terms, read.page.filters, similar=query.similar)
    page["terms"] = await _term_variables(context, collection, query.further_terms())
    if query.similar:
        image = await context.search.image(collection, query.similar)
        page["similar"] = responses.image_item(image, context.stores.get(collection.bucket))
    if query.view:
        viewed = await context.search.by_ids(collection, [query.view])
        page["viewed"] = next(iter(responses.image_page(viewed, context.stores)["images"]), None)
    results: Mapping[str, Any] = await _results(context, collection, query)
    if "understood" in results:
        page["understood"] = _understood_variables(request.query_params, results["understood"]["parts"])
    page["images"] = results["images"]
    page["previous_cursor"] = results.get("previous_cursor")
    if results["next_cursor"]:
        page["next_page"] = page_url(request.query_params, cursor=results["next_cursor"])


async def _results(
    context: AppContext, collection: Collection, query: GalleryQuery
) -> ImagePage | HitPage | SearchPage:
    if query.similar:
        found = await context.search.similar(collection, query.similar, query.page())
        return responses.hit_page(found, context.stores)
    if query.terms():
        read = await context.query_reader.read(collection, query.typed(), query.page())
        results = await context.search.search(collection, read.terms, read.page)
        return responses.search_page(results, read.parts, context.stores)
    return responses.image_page(await context.search.list_images(collection, query.page()), context.stores)


def _filter_values(query: QueryParams) -> list[TemplateVariables]:
    """Return the name and value of each filter, and the other values of the same name."""
    given = {name: [value for value in query.getlist(name) if value] for name in FILTERS}
    return [
        {"name": name, "value": value, "others": [other for other in values if other != value]}
        for name, values in given.items()
        for value in (values if name in FilterFields.repeated else values[-1:])
    ]


async def _term_variables(
    context: AppContext, collection: Collection, terms: Sequence[Term]
) -> list[TemplateVariables]:
    """Return the variables of each term: its URL parameter, its image if the collection has it, and the terms for the
    links that negate its weight and that remove it.
    """
    ids = [int(term.value) for term in terms if term.kind == "image"]
    found = responses.image_page(await context.search.by_ids(collection, ids), context.stores)
    images = {str(image["id"]): image for image in found["images"]}
    parameters = [str(term) for term in terms]
    return [
        asdict(term)
        | {
            "parameter": parameters[index],
            "image": images.get(term.value) if term.kind == "image" else None,
            "terms_flipped": [*parameters[:index], str(replace(term, weight=-term.weight)), *parameters[index + 1 :]],
            "terms_without": [*parameters[:index], *parameters[index + 1 :]],
        }
        for index, term in enumerate(terms)
    ]


def _understood_variables(query: QueryParams, parts: Sequence[UnderstoodPart]) -> list[TemplateVariables]:
    """Return the variables of each part of the words, with the links that turn it into words and that remove it."""
    literal = query.getlist("literal")
    return [
        dict(part)
        | {
            "words_url": page_url(query, literal=[*literal, part["text"]]),
            "remove_url": page_url(query, q=without(query["q"], part["text"])),
        }
        for part in parts
    ]


def _literal_variables(query: QueryParams) -> list[TemplateVariables]:
    """Return the variables of each phrase that stays words, with the link to the page where it does not."""
    literal = [phrase for phrase in query.getlist("literal") if phrase]
    return [
        {"text": phrase, "filter_url": page_url(query, literal=[other for other in literal if other != phrase])}
        for phrase in literal
    ]


def page_url(current: QueryParams, /, **changes: str | Sequence[str] | None) -> str:
    """Return the URL of the page with *changes*: None removes a parameter, a sequence repeats it."""
    parameters = {name: [value for value in current.getlist(name) if value] for name in STATE}
    # ``query_image`` is short for a term.
    handles = [f"query_image:{handle}" for handle in current.getlist("query_image") if handle]
    parameters["term"] = [*handles, *parameters["term"]]
    query = urlencode({name: value for name, value in (parameters | changes).items() if value}, doseq=True)
    return f"/?{query}" if query else "/"
