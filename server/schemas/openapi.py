"""OpenAPI 3.1 document of the API, generated from the routes and the models that their handlers parse.

``Operation`` decorates a handler with its description; the texts of the document are those of its docstring.
"""

import inspect
import re
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any, Literal

from pydantic import BaseModel, TypeAdapter
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route

from server.schemas.errors import ProblemDocument
from server.schemas.requests import BodyModel, ImageId, QueryModel

Schema = dict[str, Any]
Handler = Callable[[Request], Awaitable[Response]]


@dataclass(frozen=True)
class Operation:
    """Decorator that describes a handler for the OpenAPI document. It does not change the handler.

    ``query`` and ``body`` are what the handler parses; a body in another format than JSON is a mapping from media types
    to schemas. ``response`` is the type of a successful response of ``media_type``, None for an empty one. ``errors``
    are the statuses of problem documents. An operation that ``writes`` needs API_TOKEN.
    """

    query: type[QueryModel] = QueryModel
    body: type[BodyModel] | Mapping[str, Schema] | None = None
    response: Any = None
    statuses: Sequence[int] = (200,)
    media_type: str = "application/json"
    errors: Sequence[int] = (400, 404, 503)
    writes: bool = False

    def __call__(self, handler: Handler) -> Handler:
        handler.operation = self  # type: ignore[attr-defined]
        return handler


def document(routes: Sequence[BaseRoute], *, version: str) -> Schema:
    """Return the OpenAPI document of those *routes* whose handlers have an ``Operation``."""
    described = list(_described(routes))
    schemas, definitions = _schemas(operation for _, operation in described)
    paths: Schema = {}
    for route, operation in described:
        for method in sorted((route.methods or set()) - {"HEAD"}):
            paths.setdefault(route.path, {})[method.lower()] = _operation(route, operation, schemas)
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "Image Browser",
            "version": version,
            "description": "Find images by what is in them. To page through a list, pass `next_cursor` as `cursor`"
            " until it is null. Errors are problem documents (RFC 9457).",
            "license": {"name": "MIT", "identifier": "MIT"},
        },
        "servers": [{"url": "/"}],
        "paths": paths,
        "components": {
            "schemas": definitions,
            "securitySchemes": {
                "token": {"type": "http", "scheme": "bearer", "description": "API_TOKEN, READ_TOKEN or READ_TOKENS"}
            },
        },
    }


def _described(routes: Sequence[BaseRoute]) -> Iterator[tuple[Route, Operation]]:
    for route in routes:
        operation = getattr(getattr(route, "endpoint", None), "operation", None)
        if isinstance(route, Route) and isinstance(operation, Operation):
            yield route, operation


Mode = Literal["validation", "serialization"]


def _schemas(operations: Iterator[Operation]) -> tuple[dict[Any, Schema], Schema]:
    """Return the schema of each response and body model, and the definitions that these refer to."""
    modes: dict[Any, Mode] = {ProblemDocument: "serialization"}
    for operation in operations:
        if operation.response is not None:
            modes[operation.response] = "serialization"
        if isinstance(operation.body, type):
            modes[operation.body] = "validation"
    inputs = [(model, mode, TypeAdapter(model)) for model, mode in modes.items()]
    made, common = TypeAdapter.json_schemas(inputs, ref_template="#/components/schemas/{model}")
    return {model: dict(schema) for (model, _), schema in made.items()}, common.get("$defs", {})


def _operation(route: Route, operation: Operation, schemas: Mapping[Any, Schema]) -> Schema:
    summary, description = _texts(route.endpoint)
    described: Schema = {
        "operationId": route.endpoint.__name__,
        "tags": [route.endpoint.__module__.rpartition(".")[2]],
        "summary": summary,
        "description": description,
        "parameters": [*_path_parameters(route), *_query_parameters(operation.query)],
        "responses": _successes(operation, schemas) | _problems(operation, schemas[ProblemDocument]),
        # Reading needs a token only if READ_TOKEN or READ_TOKENS is set.
        "security": [{"token": []}] if operation.writes else [{}, {"token": []}],
    }
    if operation.body is not None:
        described["requestBody"] = {"required": True, "content": _body_content(operation.body, schemas)}
    return described


def _body_content(body: type[BaseModel] | Mapping[str, Schema], schemas: Mapping[Any, Schema]) -> Schema:
    by_media_type = {"application/json": schemas[body]} if isinstance(body, type) else body
    return {media_type: {"schema": schema} for media_type, schema in by_media_type.items()}


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


def _successes(operation: Operation, schemas: Mapping[Any, Schema]) -> Schema:
    content: Schema = {}
    if operation.response is not None:
        content = {"content": {operation.media_type: {"schema": schemas[operation.response]}}}
    return {str(status): {"description": HTTPStatus(status).phrase, **content} for status in operation.statuses}


def _problems(operation: Operation, schema: Schema) -> Schema:
    content = {"application/problem+json": {"schema": schema}}
    statuses = sorted(operation.errors)
    return {str(status): {"description": HTTPStatus(status).phrase, "content": content} for status in statuses}
