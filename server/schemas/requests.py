"""Models of request parameters and bodies. Handlers parse with them; ``/openapi.json`` is generated from them.

Invalid input becomes a 400 that names the parameter, its value and the allowed values.
"""

import re
from dataclasses import dataclass, replace
from datetime import date, datetime, timedelta
from typing import Annotated, Any, ClassVar, Literal, TypeVar

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    GetCoreSchemaHandler,
    GetJsonSchemaHandler,
    ValidationError,
    model_validator,
)
from pydantic.json_schema import JsonSchemaValue, WithJsonSchema
from pydantic_core import CoreSchema, ErrorDetails, core_schema
from starlette.datastructures import QueryParams
from starlette.requests import Request

from server import request_body
from server.problem import Problem
from server.query_language.reader import TypedQuery
from server.request_body import BodyLimit
from server.search.service import PageRequest
from server.search.terms import MAX_TERMS, MAX_WEIGHT, Kind, Term
from shared import colours
from shared.models import MAX_ID, Filters, Orientation, Sort, TakenSort

DEFAULT_LIMIT, MAX_LIMIT = 30, 200
MAX_QUERY_LENGTH = 1000
MAX_SELECTED = 10_000
MAX_FILTER_VALUES = 20
MAX_URL_LENGTH = 2000
_MAX_OFFSET = timedelta(hours=16)
JSON_BODY = BodyLimit("the body", max_bytes=1 << 20)

# Members of a JSON term, of which each term has one, and their kinds of term.
_TERM_KINDS: dict[str, Kind] = {
    "text": "text",
    "image_id": "image",
    "image_url": "image_url",
    "query_image": "query_image",
}


@dataclass(frozen=True)
class Allowed:
    """Annotation that replaces pydantic's error message with a description of the allowed values."""

    values: str

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        return core_schema.custom_error_schema(handler(source), "not_allowed", custom_error_message=self.values)


@dataclass(frozen=True)
class OneOrMore:
    """Annotation of a tuple that may also be given as a single value or null."""

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        return core_schema.no_info_before_validator_function(_listed, handler(source))

    def __get_pydantic_json_schema__(self, schema: CoreSchema, handler: GetJsonSchemaHandler) -> JsonSchemaValue:
        listed = handler(schema)
        return {"anyOf": [listed["items"], listed, {"type": "null"}]}


def _listed(value: object) -> object:
    if value is None:
        return ()
    if isinstance(value, list):
        return tuple(value)
    return (value,) if isinstance(value, str) else value


def _any_if_none(values: tuple[Any, ...]) -> tuple[Any, ...]:
    """Return no values if one of them stands for any: the folder "/"."""
    return () if None in values else values


def _split_numbers(value: object) -> object:
    return value.split(",") if isinstance(value, str) else value


def _split_all_numbers(value: object) -> object:
    """Return the numbers of a form, which may repeat the field and separate numbers by commas."""
    if not isinstance(value, list) or not all(isinstance(each, str) for each in value):
        return value
    return [int(number) if number.isdecimal() else number for each in value for number in each.split(",")]


def _parse_moment(value: object) -> object:
    # pydantic would also accept seconds since the epoch.
    moment = datetime.fromisoformat(value) if isinstance(value, str) else value
    if isinstance(moment, datetime) and abs(moment.utcoffset() or timedelta()) >= _MAX_OFFSET:
        raise ValueError("PostgreSQL has no such offset")
    return moment


def _parse_day(value: object) -> object:
    return date.fromisoformat(value) if isinstance(value, str) else value


def _require_nonzero(value: float) -> float:
    if value == 0:
        raise ValueError("0 has no effect")
    return value


def _strip_slashes(folder: str) -> str | None:
    return folder.strip("/") or None


def _media_type(name: str) -> str | None:
    """Return the media type for ``jpg``, ``jpeg`` or ``image/jpeg``."""
    name = name.lower()
    if "/" in name or not name:
        return name or None
    aliases = {"jpg": "jpeg", "tif": "tiff", "heif": "heic", "j2k": "jp2", "psd": "vnd.adobe.photoshop", "raw": "x-raw"}
    return f"image/{aliases.get(name, name)}"


def _require_words(text: str) -> str:
    if not text.split():
        raise ValueError("give at least one word")
    return text


# PostgreSQL cannot store NUL in text.
Text = Annotated[str, Field(pattern=r"^[^\x00]*$")]
Words = Annotated[Text, Field(min_length=1, max_length=MAX_QUERY_LENGTH), AfterValidator(_require_words)]
Camera = Annotated[Text, Field(max_length=200)]
Folder = Annotated[Text, Field(max_length=1000), AfterValidator(_strip_slashes)]
MediaType = Annotated[Text, Field(max_length=100), AfterValidator(_media_type)]
PlaceName = Annotated[Text, Field(max_length=200)]
Colour = Annotated[
    Text,
    AfterValidator(colours.parse),
    Allowed(f"{', '.join(colours.COLOURS)}, one of these after `{colours.MOSTLY}`, or six digits such as a03020"),
]
_Value = TypeVar("_Value")
Values = Annotated[tuple[_Value, ...], Field(max_length=MAX_FILTER_VALUES), AfterValidator(_any_if_none), OneOrMore()]
ImageUrl = Annotated[Text, Field(min_length=1, max_length=MAX_URL_LENGTH, examples=["https://example.org/cat.jpg"])]
Handle = Annotated[
    str, Field(pattern=r"^[A-Za-z0-9_-]{22}$"), Allowed("the `query_image` that POST /api/query-images returned")
]
Weight = Annotated[
    float,
    Field(ge=-MAX_WEIGHT, le=MAX_WEIGHT, json_schema_extra={"not": {"const": 0}}),
    AfterValidator(_require_nonzero),
    Allowed(f"a number from -{MAX_WEIGHT:g} to {MAX_WEIGHT:g}, other than 0"),
]
Limit = Annotated[
    int, Field(ge=1, le=MAX_LIMIT, description="images per page"), Allowed(f"a whole number from 1 to {MAX_LIMIT}")
]
ImageId = Annotated[int, Field(ge=1, le=MAX_ID), Allowed("an image id, a whole number")]
Month = Annotated[
    str | None,
    Field(
        pattern=r"^([0-9]{4}-[0-9]{2}|undated)$",
        description="where to start a list by date taken: `2024-05`, `undated`",
    ),
    Allowed("a month such as 2024-05, or undated"),
]
ImageIds = Annotated[
    tuple[Annotated[int, Field(ge=0, le=MAX_ID)], ...],
    Field(min_length=1, max_length=MAX_LIMIT),
    BeforeValidator(_split_numbers),
    Allowed(f"1 to {MAX_LIMIT} whole numbers, separated by commas"),
]
SelectedIds = Annotated[
    list[Annotated[int, Field(ge=0, le=MAX_ID)]],
    Field(min_length=1, max_length=MAX_SELECTED),
    BeforeValidator(_split_all_numbers),
    Allowed(f"1 to {MAX_SELECTED:,} whole numbers"),
]
SelectionSize = Annotated[int, Field(ge=1, le=MAX_ID), Allowed("a whole number, 1 or more")]
Bucket = Annotated[str | None, Field(description="the collection; the default one if absent")]
Cursor = Annotated[str | None, Field(description="`next_cursor` of the previous page; the first page if absent")]
Phrase = Annotated[Text, Field(max_length=MAX_QUERY_LENGTH)]
Parse = Annotated[
    bool,
    Field(description='understand dates, cameras, file types, "exact words" and -excluded ones in `q`'),
    Allowed("1 or 0"),
]
Strict = Annotated[bool, Field(description="leave out weak matches"), Allowed("1 or 0")]
Size = Annotated[int, Field(ge=0, le=MAX_ID), Allowed("a whole number, 0 or more")]
Moment = Annotated[
    datetime,
    BeforeValidator(_parse_moment),
    Allowed("a date such as 2024-05-31, or a time such as 2024-05-31T18:00:00"),
    WithJsonSchema({"type": "string", "anyOf": [{"format": "date"}, {"format": "date-time"}]}),
]
Day = Annotated[date, BeforeValidator(_parse_day), Allowed("a date such as 2024-05-31")]


SearchSort = Literal["relevance"] | Sort
_REPEATED = "; repeat it for images with any of several"
_SORTS = "`created` is the time of upload, `taken` that of the photo, undated ones last; a minus puts the latest first"


class QueryModel(BaseModel):
    """Parameters of a URL's query string. Unknown parameters are ignored, empty ones count as absent.

    ``repeated`` names the parameters that may occur several times.
    """

    model_config = ConfigDict(frozen=True, str_strip_whitespace=True)
    repeated: ClassVar[frozenset[str]] = frozenset()


class BodyModel(BaseModel):
    """Members of a JSON body. Unknown members and values of another type are refused."""

    model_config = ConfigDict(frozen=True, str_strip_whitespace=True, extra="forbid", allow_inf_nan=False)


class CollectionQuery(QueryModel):
    """A request about one collection."""

    bucket: Bucket = None


class SuggestQuery(CollectionQuery):
    """A request for completions of what is typed."""

    q: Text = Field("", max_length=MAX_QUERY_LENGTH, description="the words typed so far")


class FilterFields(BaseModel):
    """Conditions that every listed image meets. Of several values of one filter, it meets one."""

    repeated: ClassVar[frozenset[str]] = frozenset(
        f"{prefix}{name}"
        for name in ("camera", "folder", "orientation", "type", "colour", "place")
        for prefix in ("", "not_")
    ) | {"exact"}

    taken_after: Moment | None = Field(None, description="taken at this time or later, by the camera's clock")
    taken_before: Moment | None = Field(None, description="taken before this time, by the camera's clock")
    taken_until: Day | None = Field(None, description="taken on this day or earlier, by the camera's clock")
    camera: Values[Camera] = Field((), description=f"name of the camera{_REPEATED}")
    not_camera: Values[Camera] = Field((), description="none of these cameras")
    folder: Values[Folder] = Field((), description=f"folder, subfolders included{_REPEATED}")
    not_folder: Values[Folder] = Field((), description="none of these folders")
    orientation: Values[Orientation] = Field((), description=f"shape of the upright image{_REPEATED}")
    not_orientation: Values[Orientation] = Field((), description="none of these shapes")
    type: Values[MediaType] = Field((), description=f"`jpeg`, `png`, …, or a media type{_REPEATED}")
    not_type: Values[MediaType] = Field((), description="none of these types")
    colour: Values[Colour] = Field((), description=f"colour that covers much of the image{_REPEATED}")
    not_colour: Values[Colour] = Field((), description="none of these colours")
    place: Values[PlaceName] = Field((), description=f"city, region or country, by any of its names{_REPEATED}")
    not_place: Values[PlaceName] = Field((), description="none of these places")
    min_width: Size | None = Field(None, description="pixels")
    max_width: Size | None = Field(None, description="pixels")
    min_height: Size | None = Field(None, description="pixels")
    max_height: Size | None = Field(None, description="pixels")
    min_size: Size | None = Field(None, description="bytes")
    max_size: Size | None = Field(None, description="bytes")
    min_pixels: Size | None = Field(None, description="width times height")
    max_pixels: Size | None = Field(None, description="width times height")
    exact: Values[Words] = Field(
        (), description="words in this order in the name, the metadata or the picture; of several, each"
    )

    def filters(self) -> Filters:
        """Return the conditions for the search package."""
        return Filters(**{name: getattr(self, name) for name in FilterFields.model_fields})


class TimelineQuery(FilterFields, CollectionQuery):
    """A request for the months of the images that pass the filters."""

    sort: TakenSort = Field("-taken", description="the order of the list that the cursors continue, and of the months")

    def page(self) -> PageRequest:
        """Return the list for the search package."""
        return PageRequest(DEFAULT_LIMIT, filters=self.filters(), sort=self.sort)


class FiltersBody(BodyModel, FilterFields):
    """Filters of a composed search."""


def _require_one_kind(schema: dict[str, Any]) -> None:
    """Add to the JSON schema of a term that exactly one of the four values is present."""
    schema["oneOf"] = [{"required": [name], "properties": {name: {"not": {"type": "null"}}}} for name in _TERM_KINDS]


class TermBody(BodyModel):
    """One term of a search: a text, or an image by its id, its URL or its handle."""

    model_config = ConfigDict(json_schema_extra=_require_one_kind)

    text: Words | None = Field(None, description="words")
    image_id: ImageId | None = Field(None, description="an image of the collection")
    image_url: ImageUrl | None = Field(None, description="URL of a picture")
    query_image: Handle | None = Field(None, description="handle of a picture, from `POST /api/query-images`")
    weight: Weight = Field(1.0, description="share of the term in the sum; a negative weight counts against")

    @model_validator(mode="after")
    def _check_kind(self) -> "TermBody":
        if sum(getattr(self, name) is not None for name in _TERM_KINDS) != 1:
            raise ValueError("give exactly one of text, image_id, image_url and query_image")
        return self

    def term(self) -> Term:
        """Return the term for the search package."""
        (name,) = (name for name in _TERM_KINDS if getattr(self, name) is not None)
        return Term(_TERM_KINDS[name], str(getattr(self, name)), self.weight)


def _parse_term(value: object) -> object:
    """Return the members of a TermBody for a term as URLs write it."""
    if not isinstance(value, str):
        return value
    term = Term.parse(value)
    return {("image_id" if term.kind == "image" else term.kind): term.value, "weight": term.weight}


UrlTerm = Annotated[TermBody, BeforeValidator(_parse_term), WithJsonSchema({"type": "string", "minLength": 6})]


class PageQuery(FilterFields, CollectionQuery):
    """A request for one page of a list of images."""

    limit: Limit = DEFAULT_LIMIT
    cursor: Cursor = None

    def page(self) -> PageRequest:
        """Return the page for the search package."""
        return PageRequest(self.limit, self.cursor, self.filters())


class ListQuery(PageQuery):
    """A request for images by date, or for the images with given ids."""

    sort: Sort = Field("-created", description=_SORTS)
    month: Month = None
    ids: ImageIds | None = Field(None, description="return these images, in this order; missing ones are left out")
    around: ImageId | None = Field(None, description="return the page with this image in its middle")

    def page(self) -> PageRequest:
        return replace(super().page(), sort=self.sort, month=self.month)


class RankedQuery(PageQuery):
    """A request for images ranked by similarity."""

    strict: Strict = False
    sort: SearchSort = Field("relevance", description=f"by date only strong matches are listed: {_SORTS}")

    def page(self) -> PageRequest:
        return replace(super().page(), strict=self.strict, sort=date_sort(self.sort))


class SearchFields(BaseModel):
    """The terms of a search."""

    repeated: ClassVar[frozenset[str]] = FilterFields.repeated | {"term", "literal"}

    q: Words | None = Field(None, description="words to search for", examples=["a red dress"])
    query_image: Handle | None = Field(None, description="handle of an uploaded picture to search for")
    term: list[UrlTerm] = Field(
        [],
        max_length=MAX_TERMS,
        description="further terms: `[-][WEIGHT*]KIND:VALUE`, such as `text:at night`, `-text:people`, `0.5*image:12`,"
        " `query_image:HANDLE`; a leading minus counts against",
    )

    parse: Parse = False
    literal: list[Phrase] = Field(
        [], max_length=MAX_TERMS, description="phrases of `q` that stay words although they are parsed"
    )

    def terms(self) -> list[Term]:
        """Return all terms: ``q``, ``query_image``, then each ``term``."""
        return [*([Term("text", self.q)] if self.q else []), *self.further_terms()]

    def typed(self) -> TypedQuery:
        """Return the terms for the query language."""
        return TypedQuery(self.q, self.further_terms(), self.parse, self.literal)

    def further_terms(self) -> list[Term]:
        """Return all terms but ``q``."""
        pictures = [Term("query_image", self.query_image)] if self.query_image else []
        return [*pictures, *(term.term() for term in self.term)]


class SearchQuery(SearchFields, RankedQuery):
    """A search for a text, a picture or a weighted sum of them."""


class GalleryQuery(SearchQuery):
    """The state of the gallery page, all of it in its URL."""

    parse: Parse = True
    similar: ImageId | None = None
    month: Month = None
    view: ImageId | None = None

    def page(self) -> PageRequest:
        return replace(super().page(), month=self.month)


class FacetsQuery(SearchFields, FilterFields, CollectionQuery):
    """A request for the values that filters can take in a list or a search."""

    similar: ImageId | None = Field(None, description="the images similar to this one")


class ComposedSearchBody(BodyModel):
    """A search for the images nearest to a weighted sum of texts and images."""

    bucket: Bucket = None
    terms: list[TermBody] = Field(min_length=1, max_length=MAX_TERMS, description="the terms of the sum")
    filters: FiltersBody | None = Field(None, description="conditions on the images; none if absent")
    strict: bool = Field(False, description="leave out weak matches")
    limit: Limit = DEFAULT_LIMIT
    cursor: Cursor = None
    sort: SearchSort = Field("relevance", description=f"by date only strong matches are listed: {_SORTS}")

    def page(self) -> PageRequest:
        """Return the page for the search package."""
        filters = self.filters.filters() if self.filters else Filters()
        return PageRequest(self.limit, self.cursor, filters, self.strict, date_sort(self.sort))


def date_sort(sort: SearchSort) -> Sort | None:
    """Return *sort* as PageRequest has it."""
    return None if sort == "relevance" else sort


class SelectionBody(SearchFields, FilterFields, BodyModel):
    """Images to download: those with the given ids, or all of the list that the other members describe.

    Without ``ids``, ``similar`` and terms that is the list of recent images. With ``ids``, terms only give the scores.
    """

    repeated: ClassVar[frozenset[str]] = SearchFields.repeated | {"ids"}

    bucket: Bucket = None
    ids: SelectedIds | None = Field(None, description="these images, in this order; missing ones are left out")
    similar: ImageId | None = Field(None, description="the images similar to this one")
    strict: Strict = False
    sort: SearchSort = Field("relevance", description=f"a list without terms has the latest upload first: {_SORTS}")
    limit: SelectionSize | None = Field(None, description="at most so many images of a list; all if absent")

    def terms(self) -> list[Term]:
        """Return the terms of the search, or the image that others are similar to."""
        return [Term("image", str(self.similar))] if self.similar else super().terms()


class ExportBody(SelectionBody):
    """Images to export, and the format of their rows."""

    format: Literal["csv", "json"] = "csv"


class ImageUrlBody(BodyModel):
    """The URL of a picture to search for."""

    url: ImageUrl


class RetryQuery(CollectionQuery):
    """The failed images to try again."""

    key: Text | None = Field(None, max_length=1024, description="only this image; without it, all")


class AddImageQuery(CollectionQuery):
    """Collection and name of an image to add."""

    key: Text | None = Field(None, max_length=1024, description="key in the bucket")
    filename: Text | None = Field(
        None, max_length=1000, description="name of the file; without `key`, a free key is derived from it"
    )


Q = TypeVar("Q", bound=QueryModel)
B = TypeVar("B", bound=BodyModel)
S = TypeVar("S", bound=SelectionBody)


def parse(model: type[Q], request: Request) -> Q:
    """Return the query string of *request* as *model*; raise a 400 that names the invalid parameter."""
    try:
        return model.model_validate(_given(request.query_params, model.repeated))
    except ValidationError as exc:
        raise _problem(model, exc) from exc


def _given(parameters: QueryParams, repeated: frozenset[str]) -> dict[str, Any]:
    """Return the parameters that are not empty; of those that may be *repeated*, all values."""
    given: dict[str, Any] = {name: value for name, value in parameters.items() if value and not value.isspace()}
    return given | {
        name: [each for each in parameters.getlist(name) if each.strip()] for name in repeated & given.keys()
    }


async def parse_body(model: type[B], request: Request) -> B:
    """Return the JSON body of *request* as *model*; raise a 400 that names the invalid member, a 408, 413 or 415."""
    content_type = request_body.media_type(request)
    if content_type != "application/json":
        raise Problem(415, f"the Content-Type of the body is {content_type[:40]!r}: send application/json")
    content = await request_body.read(request, JSON_BODY)
    try:
        return model.model_validate_json(content, strict=True)
    except ValidationError as exc:
        raise _problem(model, exc) from exc


async def parse_selection(model: type[S], request: Request) -> S:
    """Return the body as *model*, JSON or a form, whose unknown fields are ignored; raise like ``parse_body``."""
    if request_body.media_type(request) != "application/x-www-form-urlencoded":
        return await parse_body(model, request)
    form = QueryParams(await request_body.read(request, JSON_BODY))
    try:
        given = _given(form, model.repeated)
        return model.model_validate({name: given[name] for name in given.keys() & model.model_fields.keys()})
    except ValidationError as exc:
        raise _problem(model, exc) from exc


def parse_image_id(request: Request) -> int:
    """Return the image id in the path of *request*; raise a 404 if it cannot be one."""
    value = request.path_params["id"]
    if not re.fullmatch(r"[0-9]{1,19}", value) or not 1 <= int(value) <= MAX_ID:
        raise Problem(404, f"no image {value[:40]!r}: an id is a whole number")
    return int(value)


def _problem(model: type[BaseModel], invalid: ValidationError) -> Problem:
    """Return a 400 for the first of the errors."""
    error = invalid.errors(include_url=False)[0]
    return Problem(400, _detail(model, error))


def _detail(model: type[BaseModel], error: ErrorDetails) -> str:
    name, value, message, context = _path(error["loc"]), error["input"], error["msg"], error.get("ctx", {})
    match error["type"]:
        case "json_invalid":
            return f"the body is not JSON: {context['error']}"
        case "missing":
            field = model.model_fields.get(name)
            return f"{name} is missing" + (f": give {field.description}" if field and field.description else "")
        case "extra_forbidden":
            return f"{name} is unknown: leave it out"
        case "string_too_long":
            return f"{name} has {len(value):,} characters: give at most {context['max_length']:,}"
        case "too_long":
            return f"{name} has {context['actual_length']} items: give at most {context['max_length']}"
        case "string_pattern_mismatch" | "string_unicode":
            return f"{name} contains NUL or an unpaired surrogate: leave it out"
        case "value_error":
            return f"{name}: {context['error']}"
        case "not_allowed":
            return f"{name} is {_shortened(value)}: give {message}"
        case "literal_error":
            return f"{name} is {_shortened(value)}: give {context['expected']}"
    return f"{name} is {_shortened(value)}: {message[:1].lower()}{message[1:]}"


def _path(location: tuple[int | str, ...]) -> str:
    """Return the location of an error as a path such as ``terms[2].weight``."""
    path = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in location)
    return path.removeprefix(".") or "the body"


def _shortened(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:60]}…"
