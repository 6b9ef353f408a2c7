"""What requests may ask for, as models: requests are checked by them, and ``/openapi.json`` is made of them.

Whatever is wrong with a request becomes a 400 that names the parameter, its value and what is allowed.
"""

import re
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Annotated, Any, ClassVar, Literal, TypeVar

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    GetCoreSchemaHandler,
    ValidationError,
    model_validator,
)
from pydantic.json_schema import WithJsonSchema
from pydantic_core import CoreSchema, core_schema
from starlette.datastructures import QueryParams
from starlette.requests import Request

from server.schemas.errors import Problem
from server.search.query import MAX_TERMS, MAX_WEIGHT, Kind, Term
from shared.models import Filters

LIMIT, MAX_LIMIT = 30, 200
MAX_QUERY = 1000
MAX_ADDRESS = 2000
MAX_ID = 2**63 - 1
MAX_BODY = 1 << 20  # bytes of a JSON body

# The member of a term that says what it is, and the kind that it is then.
_SUBJECTS: dict[str, Kind] = {
    "text": "text",
    "image_id": "image",
    "image_url": "image_url",
    "query_image": "query_image",
}


@dataclass(frozen=True)
class Allowed:
    """Says in words what a parameter may be; they take the place of what pydantic would say."""

    words: str

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        return core_schema.custom_error_schema(handler(source), "not_allowed", custom_error_message=self.words)


def _numbers(value: object) -> object:
    return value.split(",") if isinstance(value, str) else value


def _moment(value: object) -> object:
    # pydantic would also take a number of seconds.
    moment = datetime.fromisoformat(value) if isinstance(value, str) else value
    return moment.replace(tzinfo=UTC) if isinstance(moment, datetime) and moment.tzinfo is None else moment


def _not_zero(value: float) -> float:
    if value == 0:
        raise ValueError("it would count for nothing")
    return value


def _some(words: str) -> str:
    if not words.split():
        raise ValueError("give some words")
    return words


# Text without NUL, which PostgreSQL cannot hold.
Text = Annotated[str, Field(pattern=r"^[^\x00]*$")]
Words = Annotated[Text, Field(min_length=1, max_length=MAX_QUERY), AfterValidator(_some)]
Address = Annotated[Text, Field(min_length=1, max_length=MAX_ADDRESS, examples=["https://example.org/cat.jpg"])]
Handle = Annotated[str, Field(pattern=r"^[A-Za-z0-9_-]{22}$"), Allowed("what POST /api/query-images answered")]
Weight = Annotated[
    float,
    Field(ge=-MAX_WEIGHT, le=MAX_WEIGHT, json_schema_extra={"not": {"const": 0}}),
    AfterValidator(_not_zero),
    Allowed(f"a number from -{MAX_WEIGHT:g} to {MAX_WEIGHT:g}, other than 0"),
]
Limit = Annotated[int, Field(ge=1, le=MAX_LIMIT), Allowed(f"a whole number from 1 to {MAX_LIMIT}")]
ImageId = Annotated[int, Field(ge=1, le=MAX_ID), Allowed("an image's id, a whole number")]
ImageIds = Annotated[
    tuple[Annotated[int, Field(ge=0, le=MAX_ID)], ...],
    Field(min_length=1, max_length=MAX_LIMIT),
    BeforeValidator(_numbers),
    Allowed(f"1 to {MAX_LIMIT} whole numbers, separated by commas"),
]
Strict = Annotated[bool, Field(description="leave out weak matches"), Allowed("1 or 0")]
Size = Annotated[int, Field(ge=0, le=MAX_ID), Allowed("a whole number, 0 or more")]
Moment = Annotated[
    datetime,
    BeforeValidator(_moment),
    Allowed("a date such as 2024-05-31, or a time such as 2024-05-31T18:00:00Z"),
    WithJsonSchema({"type": "string", "anyOf": [{"format": "date"}, {"format": "date-time"}]}),
]


class Query(BaseModel):
    """What is read from an address's query. Unknown parameters are passed over, empty ones are as if left out.

    ``repeated`` are those that an address may hold several times.
    """

    model_config = ConfigDict(frozen=True, str_strip_whitespace=True)
    repeated: ClassVar[frozenset[str]] = frozenset()


class Body(BaseModel):
    """What is read from a JSON body. Unknown members are refused, and so are values of another type."""

    model_config = ConfigDict(frozen=True, str_strip_whitespace=True, extra="forbid", allow_inf_nan=False)


class InCollection(Query):
    """A request that concerns one collection."""

    bucket: str | None = Field(None, description="the collection; the default one when left out")


class Facets(InCollection):
    """What filters have to choose from."""

    folder: Text | None = Field(None, max_length=1000, description="list the folders right below this one")


class Listing(InCollection):
    """A page of a list."""

    limit: Limit = Field(LIMIT, description="how many images a page holds")
    cursor: str | None = Field(None, description="`next_cursor` of the page before; the first page when left out")


class FilterFields(BaseModel):
    """Which images are wanted; all that is given must hold."""

    taken_after: Moment | None = Field(None, description="taken at that time or later")
    taken_before: Moment | None = Field(None, description="taken before that time")
    camera: Text | None = Field(None, max_length=200, description="the camera's name")
    folder: Text | None = Field(None, max_length=1000, description="a folder; those within it count too")
    orientation: Literal["landscape", "portrait", "square"] | None = None
    type: Text | None = Field(None, max_length=100, description="`jpeg`, `png`, …, or a media type")
    min_width: Size | None = Field(None, description="pixels")
    max_width: Size | None = Field(None, description="pixels")
    min_height: Size | None = Field(None, description="pixels")
    max_height: Size | None = Field(None, description="pixels")
    min_size: Size | None = Field(None, description="bytes")
    max_size: Size | None = Field(None, description="bytes")

    def filters(self) -> Filters:
        """Return the filters in the form that lists take."""
        given = {name: getattr(self, name) for name in FilterFields.model_fields}
        given["folder"] = self.folder.strip("/") if self.folder else None
        given["type"] = media_type(self.type) if self.type else None
        return Filters(**given)


_OTHER_NAMES = {"jpg": "jpeg", "tif": "tiff", "heif": "heic", "raw": "x-raw"}


def media_type(name: str) -> str:
    """Return the media type that *name* means: ``jpg``, ``jpeg``, ``image/jpeg``."""
    name = name.lower()
    return name if "/" in name else f"image/{_OTHER_NAMES.get(name, name)}"


class FilterBody(Body, FilterFields):
    """The filters of a composed query."""


def _as_written(schema: dict[str, Any]) -> None:
    """Say in a term's schema that it holds exactly one of the four."""
    schema["oneOf"] = [{"required": [name], "properties": {name: {"not": {"type": "null"}}}} for name in _SUBJECTS]


class TermBody(Body):
    """One part of what is asked for: a text, or an image by its id, by its address or by its handle."""

    model_config = ConfigDict(json_schema_extra=_as_written)

    text: Words | None = Field(None, description="words")
    image_id: ImageId | None = Field(None, description="an image of the collection")
    image_url: Address | None = Field(None, description="the address of a picture")
    query_image: Handle | None = Field(None, description="the handle that `POST /api/query-images` gave a picture")
    weight: Weight = Field(1.0, description="how much it counts; what is negative counts against")

    @model_validator(mode="after")
    def _one_subject(self) -> "TermBody":
        if sum(getattr(self, name) is not None for name in _SUBJECTS) != 1:
            raise ValueError("give exactly one of text, image_id, image_url and query_image")
        return self

    def term(self) -> Term:
        """Return the term."""
        (name,) = (name for name in _SUBJECTS if getattr(self, name) is not None)
        return Term(_SUBJECTS[name], str(getattr(self, name)), self.weight)


def _written(value: object) -> object:
    """Return the members of the term that an address writes."""
    if not isinstance(value, str):
        return value
    term = Term.parse(value)
    return {("image_id" if term.kind == "image" else term.kind): term.value, "weight": term.weight}


WrittenTerm = Annotated[TermBody, BeforeValidator(_written), WithJsonSchema({"type": "string", "minLength": 6})]


class Recent(FilterFields, Listing):
    """Recent images, or those with certain ids."""

    ids: ImageIds | None = Field(None, description="these images alone, in this order, as far as they are there")


class Similar(FilterFields, Listing):
    """An image's neighbours."""

    strict: Strict = False


class Search(FilterFields, Listing):
    """What a text or a picture finds, or a sum of them."""

    repeated = frozenset({"term"})

    q: Words | None = Field(None, description="the words to search for", examples=["a red dress"])
    query_image: Handle | None = Field(None, description="the handle of an uploaded picture, to search for its like")
    term: list[WrittenTerm] = Field(
        [],
        max_length=MAX_TERMS,
        description="further terms: `[-][WEIGHT*]KIND:VALUE`, such as `text:at night`, `-text:people`, `0.5*image:12`,"
        " `query_image:HANDLE`; what begins with a minus counts against",
    )
    strict: Strict = False

    def terms(self) -> list[Term]:
        """Return all that is asked for, in the order of the parameters above."""
        texts = [Term("text", self.q)] if self.q else []
        pictures = [Term("query_image", self.query_image)] if self.query_image else []
        return [*texts, *pictures, *(term.term() for term in self.term)]


class Gallery(Search):
    """What the address of the gallery holds."""

    similar: str | None = None


class Compose(Body):
    """A sum of texts and images: what is nearest to it is searched for."""

    bucket: str | None = Field(None, description="the collection; the default one when left out")
    terms: list[TermBody] = Field(min_length=1, max_length=MAX_TERMS, description="what is summed")
    filters: FilterBody | None = Field(None, description="which images are wanted; all when left out")
    strict: bool = Field(False, description="leave out weak matches")
    limit: Limit = Field(LIMIT, description="how many images a page holds")
    cursor: str | None = Field(None, description="`next_cursor` of the page before; the first page when left out")


class QueryImageAddress(Body):
    """The address of a picture that is to be searched for."""

    url: Address


M = TypeVar("M", bound=BaseModel)


def read(model: type[M], values: QueryParams) -> M:
    """Return what a query asks for; raise a 400 that names what is wrong with it."""
    given: dict[str, Any] = {name: value for name, value in values.items() if value and not value.isspace()}
    for name in getattr(model, "repeated", ()):
        given[name] = [value for value in values.getlist(name) if value and not value.isspace()]
    try:
        return model.model_validate(given)
    except ValidationError as exc:
        raise _problem(model, exc) from exc


async def read_body(model: type[M], request: Request) -> M:
    """Return what a JSON body asks for; raise a 400 that names what is wrong with it, a 413 or a 415."""
    media_type = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if media_type != "application/json":
        raise Problem(415, f"the body's Content-Type is {media_type[:40]!r}: send application/json")
    # A request that starts over finds its body here.
    if not hasattr(request.state, "body"):
        content = bytearray()
        async for part in request.stream():
            content += part
            if len(content) > MAX_BODY:
                raise Problem(413, f"the body is too large: send at most {MAX_BODY:,} bytes of JSON")
        request.state.body = bytes(content)
    try:
        return model.model_validate_json(request.state.body, strict=True)
    except ValidationError as exc:
        raise _problem(model, exc) from exc


def image_id(value: str) -> int:
    """Return an image's id from an address."""
    if not re.fullmatch(r"[0-9]{1,19}", value) or not 1 <= int(value) <= MAX_ID:
        raise Problem(404, f"there is no image {value[:40]!r}: an id is a whole number")
    return int(value)


def _problem(model: type[BaseModel], invalid: ValidationError) -> Problem:
    """Return the first of the errors as a problem."""
    error = invalid.errors(include_url=False)[0]
    name = _name(error["loc"])
    value = error["input"]
    match error["type"]:
        case "json_invalid":
            return Problem(400, f"the body is not JSON: {error['ctx']['error']}")
        case "missing":
            field = model.model_fields.get(name)
            hint = f": give {field.description}" if field and field.description else ""
            return Problem(400, f"{name} is missing{hint}")
        case "extra_forbidden":
            return Problem(400, f"{name} is not known here: leave it out")
        case "string_too_long":
            return Problem(400, f"{name} has {len(value):,} characters: give at most {error['ctx']['max_length']:,}")
        case "too_long":
            return Problem(
                400, f"{name} has {error['ctx']['actual_length']} items: give at most {error['ctx']['max_length']}"
            )
        case "string_pattern_mismatch" | "string_unicode":
            return Problem(400, f"{name} holds characters that are no text: NUL or half of a surrogate pair")
        case "not_allowed":
            return Problem(400, f"{name} is {_shortened(value)}: give {error['msg']}")
        case "value_error":
            return Problem(400, f"{name}: {error['ctx']['error']}")
        case "literal_error":
            return Problem(400, f"{name} is {_shortened(value)}: give {error['ctx']['expected']}")
    return Problem(400, f"{name} is {_shortened(value)}: {error['msg'][:1].lower()}{error['msg'][1:]}")


def _name(location: tuple[int | str, ...]) -> str:
    """Return the place of an error as a path: ``terms[2].weight``."""
    path = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in location)
    return path.removeprefix(".") or "the body"


def _shortened(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:60]}…"
