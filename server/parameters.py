"""What requests may ask for, as models: requests are checked by them, and ``/openapi.json`` is made of them.

Whatever is wrong with a request becomes a 400 that names the parameter, its value and what is allowed.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Annotated, Any, Literal, TypeVar

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, GetCoreSchemaHandler, ValidationError
from pydantic.json_schema import WithJsonSchema
from pydantic_core import CoreSchema, core_schema
from starlette.requests import Request

from server.problems import Problem
from shared.model import Filters

LIMIT, MAX_LIMIT = 30, 200
MAX_QUERY = 1000
MAX_ID = 2**63 - 1
MAX_BODY = 1 << 20  # bytes of a JSON body


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


# Text without NUL, which PostgreSQL cannot hold.
Text = Annotated[str, Field(pattern=r"^[^\x00]*$")]
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
    """What is read from an address's query. Unknown parameters are passed over, empty ones are as if left out."""

    model_config = ConfigDict(frozen=True, str_strip_whitespace=True)


class Body(BaseModel):
    """What is read from a JSON body. Unknown members are refused, and so are values of another type."""

    model_config = ConfigDict(frozen=True, str_strip_whitespace=True, extra="forbid", allow_inf_nan=False)


class InCollection(Query):
    """A request that concerns one collection."""

    bucket: str | None = Field(None, description="the collection; the default one when left out")


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


class Recent(FilterFields, Listing):
    """Recent images, or those with certain ids."""

    ids: ImageIds | None = Field(None, description="these images alone, in this order, as far as they are there")


class Similar(FilterFields, Listing):
    """An image's neighbours."""

    strict: Strict = False


class Search(FilterFields, Listing):
    """What a text finds."""

    q: Text = Field(max_length=MAX_QUERY, description="the words to search for", examples=["a red dress"])
    strict: Strict = False


class Gallery(FilterFields, Listing):
    """What the address of the gallery holds."""

    q: Text | None = Field(None, max_length=MAX_QUERY)
    similar: str | None = None
    strict: Strict = False


M = TypeVar("M", bound=BaseModel)


def read(model: type[M], values: Mapping[str, str]) -> M:
    """Return what a query asks for; raise a 400 that names what is wrong with it."""
    given = {name: value for name, value in values.items() if value and not value.isspace()}
    try:
        return model.model_validate(given)
    except ValidationError as exc:
        raise _problem(model, exc) from exc


async def read_body(model: type[M], request: Request) -> M:
    """Return what a JSON body asks for; raise a 400 that names what is wrong with it, a 413 or a 415."""
    media_type = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if media_type != "application/json":
        raise Problem(415, f"the body's Content-Type is {media_type[:40]!r}: send application/json")
    content = bytearray()
    async for part in request.stream():
        content += part
        if len(content) > MAX_BODY:
            raise Problem(413, f"the body is too large: send at most {MAX_BODY:,} bytes of JSON")
    try:
        return model.model_validate_json(bytes(content), strict=True)
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
