"""JSON bodies of successful responses: their types, and how they are made from what the search package returns."""

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any, NotRequired
from urllib.parse import urljoin

from pydantic_core import to_json
from starlette.responses import JSONResponse
from typing_extensions import TypedDict

from server.adapters import Stores
from server.query_language.part import Part
from server.search.service import ImageList, SearchResults, TimelineMonth
from shared.models import Collection, Counts, Facets, Hit, Image
from shared.object_keys import preview_key, thumbnail_key
from shared.stores.base import ObjectStore


class FastJSONResponse(JSONResponse):
    """JSON written by pydantic: a page of thirty images takes less than a third of the time of json.dumps."""

    def render(self, content: Any) -> bytes:
        return to_json(content)


class ImageItem(TypedDict):
    """An image. ``status`` is ``pending``, ``embedded`` or ``failed``; times are ISO 8601.

    ``taken_at`` is what the camera's clock showed, with its offset if that is known.
    """

    id: int
    key: str
    bucket: str
    url: str
    thumbnail_url: str
    preview_url: str
    width: int
    height: int
    size: int
    content_type: str
    placeholder: str | None
    created_at: str
    taken_at: str | None
    camera: str | None
    truncated: bool
    status: str


class HitItem(ImageItem):
    """A search result. ``score`` is the cosine, null for an image without a vector; ``weak`` marks a match that is no
    better than chance."""

    score: float | None
    weak: bool


class TextLineItem(TypedDict):
    """A line of text in a picture. ``box`` has its corners, x and y of each, clockwise, beginning where the text begins
    at the top, as fractions of the upright picture's width and height.
    """

    text: str
    box: list[float]


class ImageDetails(ImageItem):
    """An image with all its metadata. ``texts`` are the lines of text read in it; there are none without OCR.
    ``colours`` cover much of it; ``places`` are the city, the region and the country.
    """

    lens: str | None
    colours: list[str]
    places: list[str]
    keywords: list[str]
    title: str | None
    caption: str | None
    latitude: float | None
    longitude: float | None
    exif: dict[str, Any] | None
    origin: str
    failure_reason: str | None
    failure_detail: str | None
    texts: list[TextLineItem]


class ImagePage(TypedDict):
    """A page of images. ``next_cursor`` leads to the next page and is null on the last one. ``previous_cursor`` leads
    from a page that was requested with ``around``, or with a cursor of the timeline, to the one before it.
    """

    images: list[ImageItem]
    next_cursor: str | None
    previous_cursor: str | None


class HitPage(TypedDict):
    """A page of search results, best first. ``next_cursor`` leads to the next page and is null on the last one."""

    images: list[HitItem]
    next_cursor: str | None


class UnderstoodPart(TypedDict):
    """A part of `q` and the parameters that it stands for, with their values.

    ``kind`` is `words`, `excluded` or `exact` for words, else the kind of filter: `date`, `camera`, `place`,
    `type`, `orientation`, `size` or `colour`. ``meaning`` explains a date, a camera or a place.
    """

    text: str
    kind: str
    parameters: dict[str, list[str]]
    meaning: str | None


class UnderstoodQuery(TypedDict):
    """The parts of `q`: first the words that describe the image, if any."""

    parts: list[UnderstoodPart]


class SearchPage(HitPage):
    """A page of search results. ``understood`` is present if `q` was parsed."""

    understood: NotRequired[UnderstoodQuery]


class SuggestionItem(TypedDict):
    """A `camera`, `place`, `keyword` or file `name` with its number of images. ``text`` is the completed query."""

    kind: str
    value: str
    count: int
    text: str


class SuggestionList(TypedDict):
    """Completions of what is typed, at most 8."""

    suggestions: list[SuggestionItem]


class ExportRow(TypedDict):
    """An image in an export. ``url`` is absolute; ``score`` is null without a query."""

    id: int
    key: str
    url: str
    taken_at: str | None
    camera: str | None
    keywords: list[str]
    score: float | None


class ExportPage(TypedDict):
    """The rows of an export."""

    images: list[ExportRow]


class QueryImageHandle(TypedDict):
    """A picture to search for. ``query_image`` is its handle, valid until ``expires_at`` (ISO 8601); width and height
    are in pixels; ``thumbnail`` is a small picture as a data: URL, which the server does not store.
    """

    query_image: str
    width: int
    height: int
    thumbnail: str
    expires_at: str


class CollectionSummary(TypedDict):
    """A collection. ``total = embedded + pending + failed``."""

    bucket: str
    total: int
    embedded: int
    pending: int
    failed: int
    model: str
    dimensions: int
    title: str


class CollectionList(TypedDict):
    """The collections that the request may see."""

    collections: list[CollectionSummary]


class CameraCount(TypedDict):
    """A camera and the number of its images."""

    camera: str
    count: int


class FolderCount(TypedDict):
    """A folder, as a full path, and the number of images in it and its subfolders."""

    folder: str
    count: int


class TypeCount(TypedDict):
    """A media type and the number of its images."""

    type: str
    count: int


class ColourCount(TypedDict):
    """A colour that covers much of an image, and the number of such images."""

    colour: str
    count: int


class PlaceCount(TypedDict):
    """A city, a region or a country, and the number of images taken there."""

    place: str
    count: int


class FailureItem(TypedDict):
    """A failed image, or a file that could not become an image and has no `image`. ``reason`` is a word for programs,
    ``detail`` a sentence for people."""

    key: str
    reason: str
    detail: str
    attempts: int
    failed_at: str
    image: ImageItem | None


class FailureList(TypedDict):
    """The first failures of a collection by key, at most 200."""

    failures: list[FailureItem]


class RetryResult(TypedDict):
    """The number of images that are queued again, and of files that the next sync reads again."""

    retried: int


class FacetValues(TypedDict):
    """Values that filters can take, most frequent first, at most 200 of each, and the local times of the first and last
    image (ISO 8601), null if no image has a date."""

    cameras: list[CameraCount]
    folders: list[FolderCount]
    types: list[TypeCount]
    colours: list[ColourCount]
    places: list[PlaceCount]
    first_taken: str | None
    last_taken: str | None


class TimelineMonthItem(TypedDict):
    """A month in which images were taken, by the camera's clock (``2024-05``), null for images without a date.

    ``cursor`` continues `GET /api/images` with the same `sort` and filters at the first of them.
    """

    month: str | None
    count: int
    cursor: str


class TimelineMonths(TypedDict):
    """The months in which images were taken, those without a date last."""

    months: list[TimelineMonthItem]


def image_item(image: Image, store: ObjectStore) -> ImageItem:
    """Return the public form of an image in the bucket of *store*."""
    url = store.address(image.key, version=image.sha256.hex()[:16])
    return {
        "id": image.id,
        "key": image.key,
        "bucket": store.bucket,
        "url": url,
        "thumbnail_url": store.address(thumbnail_key(image.sha256)) if image.derivatives else url,
        "preview_url": store.address(preview_key(image.sha256)) if image.derivatives else url,
        "width": image.width,
        "height": image.height,
        "size": image.size,
        "content_type": image.content_type,
        "placeholder": image.placeholder,
        "created_at": image.created_at.isoformat(),
        "taken_at": image.taken_at.isoformat() if image.taken_at else None,
        "camera": image.camera,
        "truncated": image.truncated,
        "status": image.status,
    }


def hit_item(hit: Hit, store: ObjectStore, threshold: float | None) -> HitItem:
    """Return the public form of a search result. Scores below *threshold* are weak unless a name matches."""
    score = hit.score
    weak = score is not None and threshold is not None and score < threshold and not hit.text_match
    return {**image_item(hit.image, store), "score": None if score is None else round(score, 6), "weak": weak}


def export_row(hit: Hit, store: ObjectStore, keywords: list[str], base_url: str) -> ExportRow:
    """Return the row of an image, whose address may be a path below *base_url*."""
    image = image_item(hit.image, store)
    return {
        "id": image["id"],
        "key": image["key"],
        "url": urljoin(base_url, image["url"]),
        "taken_at": image["taken_at"],
        "camera": image["camera"],
        "keywords": keywords,
        "score": None if hit.score is None else round(hit.score, 6),
    }


def image_page(found: ImageList, stores: Stores) -> ImagePage:
    """Return the public form of a page of images."""
    store = stores.get(found.bucket)
    return {
        "images": [image_item(each, store) for each in found.images],
        "next_cursor": found.next_cursor,
        "previous_cursor": found.previous_cursor,
    }


def hit_page(found: SearchResults, stores: Stores) -> HitPage:
    """Return the public form of a page of search results."""
    store = stores.get(found.bucket)
    return {"images": [hit_item(each, store, found.threshold) for each in found.hits], "next_cursor": found.next_cursor}


def search_page(found: SearchResults, parts: Sequence[Part] | None, stores: Stores) -> SearchPage:
    """Return the public form of a page of search results, and of the *parts* of the words if they were parsed."""
    hits = hit_page(found, stores)
    page: SearchPage = {"images": hits["images"], "next_cursor": hits["next_cursor"]}
    if parts is not None:
        page["understood"] = {"parts": [_understood_part(part) for part in parts]}
    return page


def _understood_part(part: Part) -> UnderstoodPart:
    parameters = {name: _written(value) for name, value in part.filters.items()}
    if part.kind == "words" and len(part.terms) == 1:
        parameters["q"] = [part.terms[0].value]
    elif part.terms:
        parameters["term"] = [str(term) for term in part.terms]
    return {"text": part.text, "kind": part.kind, "parameters": parameters, "meaning": part.meaning or None}


def _written(value: Any) -> list[str]:
    """Return the values of a filter as URLs write them."""
    values = value if isinstance(value, tuple) else [value]
    return [each.date().isoformat() if isinstance(each, datetime) else str(each) for each in values]


def collection_list(counts: Mapping[Collection, Counts]) -> CollectionList:
    """Return the public form of collections and their counts."""
    return {"collections": [_collection_summary(collection, each) for collection, each in counts.items()]}


def sorted_by_name(found: CollectionList) -> list[CollectionSummary]:
    """Return the collections in the order of the names that pages show."""
    return sorted(found["collections"], key=lambda each: (each["title"] or each["bucket"]).casefold())


def _collection_summary(collection: Collection, counts: Counts) -> CollectionSummary:
    return {
        "bucket": collection.bucket,
        "total": counts.total,
        "embedded": counts.embedded,
        "pending": counts.pending,
        "failed": counts.failed,
        "model": collection.model,
        "dimensions": collection.dimensions,
        "title": collection.title,
    }


def facet_values(facets: Facets) -> FacetValues:
    """Return the public form of a collection's facets."""
    return {
        "cameras": [{"camera": name, "count": count} for name, count in facets.cameras.items()],
        "folders": [{"folder": path, "count": count} for path, count in facets.folders.items()],
        "types": [{"type": name, "count": count} for name, count in facets.types.items()],
        "colours": [{"colour": name, "count": count} for name, count in facets.colours.items()],
        "places": [{"place": name, "count": count} for name, count in facets.places.items()],
        "first_taken": facets.first_taken.isoformat() if facets.first_taken else None,
        "last_taken": facets.last_taken.isoformat() if facets.last_taken else None,
    }


def timeline_months(months: Sequence[TimelineMonth]) -> TimelineMonths:
    """Return the public form of a timeline."""
    return {"months": [{"month": each.month, "count": each.count, "cursor": each.cursor} for each in months]}
