"""OpenAPI 3.1 document of the API, generated from the routes and the models that their handlers parse.

``Operation`` decorates a handler with its description; the handler's docstring provides the texts.
"""

import inspect
import re
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any, Literal

from pydantic import TypeAdapter
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route

from server.schemas.errors import ProblemDocument
from server.schemas.requests import BodyModel, ImageId, QueryModel

Schema = dict[str, Any]
API_VERSION = "1"  # additions keep it, a rename or removal would not
_REFERENCE = "#/components/schemas/{model}"
Handler = Callable[[Request], Awaitable[Response]]


@dataclass(frozen=True)
class Operation:
    """Decorator that describes a handler for the OpenAPI document. It does not change the handler.

    ``query`` and ``body`` are the models that the handler parses; a body in another format than JSON is a mapping from
    media types to schemas, and ``form`` says that a form may send the same members. ``response`` is the type of a
    successful response of ``media_type``, None for an empty one; ``binary_media_types`` may be requested instead.
    ``errors`` are the statuses of problem documents. An operation that ``writes`` needs a token that may write.
    """

    query: type[QueryModel] = QueryModel
    body: type[BodyModel] | Mapping[str, Schema] | None = None
    form: bool = False
    response: Any = None
    statuses: Sequence[int] = (200,)
    media_type: str = "application/json"
    binary_media_types: Sequence[str] = ()
    errors: Sequence[int] = (400, 404, 503)
    writes: bool = False

    def __call__(self, handler: Handler) -> Handler:
        handler.operation = self  # type: ignore[attr-defined]
        return handler


def file_body(media_type: str) -> dict[str, Schema]:
    """Return the schemas of a body that is a file of *media_type*, or a form with one."""
    file = {"type": "string", "format": "binary"}
    form = {"type": "object", "properties": {"file": file}, "required": ["file"]}
    return {media_type: file, "multipart/form-data": form}


def document(routes: Sequence[BaseRoute]) -> Schema:
    """Return the OpenAPI document of those *routes* whose handlers have an ``Operation``."""
    paths: Schema = {}
    definitions: Schema = {}
    for route in routes:
        operation = getattr(getattr(route, "endpoint", None), "operation", None)
        if isinstance(route, Route) and isinstance(operation, Operation):
            for method in sorted((route.methods or set()) - {"HEAD"}):
                paths.setdefault(route.path, {})[method.lower()] = _describe(route, operation, definitions)
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "Image Browser",
            "version": API_VERSION,
            "description": "Find images by their content. To page through a list, pass `next_cursor` as `cursor`"
            " until it is null. Errors are problem documents (RFC 9457).",
            "license": {"name": "MIT", "identifier": "MIT"},
        },
        "servers": [{"url": "/"}],
        "paths": paths,
        "components": {
            "schemas": definitions,
            "securitySchemes": {
                "token": {
                    "type": "http",
                    "scheme": "bearer",
                    "description": "API_TOKEN, READ_TOKEN or READ_TOKENS of the server, or a token of `syncer tokens`",
                }
            },
        },
    }


def _describe(route: Route, operation: Operation, definitions: Schema) -> Schema:
    summary, description = _texts(route.endpoint)
    described: Schema = {
        "operationId": route.endpoint.__name__,
        "tags": [route.endpoint.__module__.rpartition(".")[2]],
        "summary": summary,
        "description": description,
        "parameters": [*_path_parameters(route), *_query_parameters(operation.query)],
        "responses": _responses(operation, definitions),
        # Reading needs a token only if READ_TOKEN or READ_TOKENS is set.
        "security": [{"token": []}] if operation.writes else [{}, {"token": []}],
    }
    if operation.body is not None:
        body = operation.body
        schemas = {"application/json": _reference(body, definitions, "validation")} if isinstance(body, type) else body
        if operation.form:
            schemas = {**schemas, "application/x-www-form-urlencoded": schemas["application/json"]}
        content = {media_type: {"schema": schema} for media_type, schema in schemas.items()}
        described["requestBody"] = {"required": True, "content": content}
    return described


def _reference(model: Any, definitions: Schema, mode: Literal["validation", "serialization"]) -> Schema:
    """Return the schema of *model*: a reference to its definition, which is added, unless the type has no name."""
    schema = TypeAdapter(model).json_schema(mode=mode, ref_template=_REFERENCE)
    definitions |= schema.pop("$defs", {})
    if "title" not in schema:
        return schema
    definitions[schema["title"]] = schema
    return {"$ref": _REFERENCE.format(model=schema["title"])}


def _responses(operation: Operation, definitions: Schema) -> Schema:
    success = {}
    if operation.response is not None:
        schema = _reference(operation.response, definitions, "serialization")
        binary = {"schema": {"type": "string", "format": "binary"}}
        success = {
            "content": {operation.media_type: {"schema": schema}, **dict.fromkeys(operation.binary_media_types, binary)}
        }
    problem = _reference(ProblemDocument, definitions, "serialization")
    failure = {"content": {"application/problem+json": {"schema": problem}}}
    contents = dict.fromkeys(operation.statuses, success) | dict.fromkeys(sorted(operation.errors), failure)
    return {str(status): {"description": HTTPStatus(status).phrase, **content} for status, content in contents.items()}


def _texts(handler: Callable[..., Any]) -> tuple[str, str]:
    """Return summary and description from a docstring such as ``GET /path: Summary.``"""
    first, _, rest = (inspect.getdoc(handler) or "").partition("\n")
    summary = first.rpartition(": ")[2] if re.match(r"[A-Z]+ /\S*: ", first) else first
    return summary[:1].upper() + summary[1:].rstrip("."), " ".join(rest.split())


def _path_parameters(route: Route) -> Iterator[Schema]:
    for name in route.param_convertors:
        schema = TypeAdapter(ImageId).json_schema() if name == "id" else {"type": "string"}
        yield {"name": name, "in": "path", "required": True, "schema": schema}


def _query_parameters(model: type[QueryModel]) -> Iterator[Schema]:
    schema = model.model_json_schema()
    for name, field in schema.get("properties", {}).items():
        parameter: Schema = {"name": name, "in": "query", "required": name in schema.get("required", ())}
        if "description" in field:
            parameter["description"] = field.pop("description")
        for example in field.pop("examples", ())[:1]:
            parameter["example"] = example
        parameter["schema"] = _without_null(field)
        parameter["allowEmptyValue"] = not parameter["required"]
        if parameter["schema"].get("type") == "array":
            parameter["explode"] = name in model.repeated
        yield parameter


def _without_null(schema: Schema) -> Schema:
    """Return the schema of an optional parameter without its null: a query string has none."""
    types = [each for each in schema.get("anyOf", []) if each != {"type": "null"}]
    rest = {name: value for name, value in schema.items() if name not in ("anyOf", "title")}
    if rest.get("default", ...) is None:
        del rest["default"]
    if "anyOf" not in schema:
        return rest
    return rest | (types[0] if len(types) == 1 else {"anyOf": types})
