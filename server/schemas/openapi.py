"""The API's description, OpenAPI 3.1, made of the routes that serve and the models that check their requests.

A handler is described where it is written, by ``operation``; the document's words are those of its docstring.
"""

import inspect
import re
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import wraps
from http import HTTPStatus
from typing import Any, Literal, TypeVar

from pydantic import BaseModel, TypeAdapter
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route

from server.schemas import requests
from server.schemas.errors import ProblemDocument

Schema = dict[str, Any]
Handler = Callable[[Request], Awaitable[Response]]
Asked = TypeVar("Asked", bound=BaseModel)


@dataclass(frozen=True)
class Operation:
    """What the document says of a handler."""

    asks: type[BaseModel]
    answers: Any
    statuses: tuple[int, ...]
    media_type: str
    example: Any
    errors: tuple[int, ...]
    uploads: Mapping[str, Schema]
    writes: bool


def operation(
    *,
    asks: type[Asked],
    answers: Any = None,
    status: int | tuple[int, ...] = 200,
    media_type: str = "application/json",
    example: Any = None,
    errors: Sequence[int] = (400, 404, 503),
    uploads: Mapping[str, Schema] | None = None,
    writes: bool = False,
) -> Callable[[Callable[[Request, Asked], Awaitable[Response]]], Handler]:
    """Describe a handler, and give it what its request asks for, checked.

    *asks* is the model of the query's parameters, or that of the JSON body when it is a Body. *answers* is the type of
    what a success of *status* carries, None for nothing; *errors* are the statuses of the problems to expect.
    *uploads* are the schemas of a body that the handler reads itself, by media type; *writes* says that it needs
    API_TOKEN.
    """

    def described(function: Callable[[Request, Asked], Awaitable[Response]]) -> Handler:
        @wraps(function)
        async def handler(request: Request) -> Response:
            return await function(request, await _asked(asks, request))

        # It takes a request alone, and Starlette asks.
        del handler.__wrapped__
        statuses = status if isinstance(status, tuple) else (status,)
        about = Operation(asks, answers, statuses, media_type, example, tuple(errors), uploads or {}, writes)
        handler.operation = about  # type: ignore[attr-defined]
        return handler

    return described


async def _asked(model: type[Asked], request: Request) -> Asked:
    if issubclass(model, requests.Body):
        return await requests.read_body(model, request)
    return requests.read(model, request.query_params)


def document(routes: Sequence[BaseRoute], *, version: str) -> Schema:
    """Return the document that describes the *routes* whose handlers are described."""
    found = list(_described(routes))
    schemas, definitions = _schemas(about for _, about in found)
    paths: Schema = {}
    for route, about in found:
        for method in sorted((route.methods or set()) - {"HEAD"}):
            paths.setdefault(route.path, {})[method.lower()] = _operation(route, about, schemas)
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "Image Browser",
            "version": version,
            "description": "Find images by what is in them. Lists are walked by giving `next_cursor` back as `cursor`,"
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
        about = getattr(getattr(route, "endpoint", None), "operation", None)
        if isinstance(route, Route) and isinstance(about, Operation):
            yield route, about


Mode = Literal["validation", "serialization"]


def _schemas(operations: Iterator[Operation]) -> tuple[dict[Any, Schema], Schema]:
    """Return the schema of each model that the operations name, and the definitions that these refer to."""
    wanted: dict[Any, Mode] = {ProblemDocument: "serialization"}
    for about in operations:
        if about.answers is not None:
            wanted[about.answers] = "serialization"
        if issubclass(about.asks, requests.Body):
            wanted[about.asks] = "validation"
    inputs = [(kind, mode, TypeAdapter(kind)) for kind, mode in wanted.items()]
    made, common = TypeAdapter.json_schemas(inputs, ref_template="#/components/schemas/{model}")
    return {kind: dict(schema) for (kind, _), schema in made.items()}, common.get("$defs", {})


def _operation(route: Route, about: Operation, schemas: Mapping[Any, Schema]) -> Schema:
    summary, description = _words(route.endpoint)
    subject = route.endpoint.__module__.rpartition(".")[2]
    described: Schema = {
        "operationId": f"{subject}_{route.endpoint.__name__}",
        "tags": [subject],
        "summary": summary,
        "description": description,
        "parameters": [*_path_parameters(route), *_query_parameters(about.asks)],
        "responses": _successes(about, schemas) | _problems(about, schemas[ProblemDocument]),
        # Reading needs a token only where one is set.
        "security": [{"token": []}] if about.writes else [{}, {"token": []}],
    }
    if about.uploads:
        content = {media_type: {"schema": schema} for media_type, schema in about.uploads.items()}
        described["requestBody"] = {"required": True, "content": content}
    elif issubclass(about.asks, requests.Body):
        described["requestBody"] = {
            "required": True,
            "content": {"application/json": {"schema": schemas[about.asks]}},
        }
    return described


def _words(handler: Callable[..., Any]) -> tuple[str, str]:
    """Return summary and description of a handler whose docstring begins with method, path and colon."""
    first, _, rest = (inspect.getdoc(handler) or "").partition("\n")
    summary = first.rpartition(": ")[2] if re.match(r"[A-Z]+ /\S*: ", first) else first
    return summary[:1].upper() + summary[1:].rstrip("."), " ".join(rest.split())


def _path_parameters(route: Route) -> Iterator[Schema]:
    for name in route.param_convertors:
        schema = TypeAdapter(requests.ImageId).json_schema() if name == "id" else {"type": "string"}
        yield {"name": name, "in": "path", "required": True, "schema": schema}


def _query_parameters(model: type[BaseModel]) -> Iterator[Schema]:
    if not issubclass(model, requests.Query):
        return
    schema = model.model_json_schema()
    for name, about in schema.get("properties", {}).items():
        described: Schema = {"name": name, "in": "query", "required": name in schema.get("required", ())}
        if "description" in about:
            described["description"] = about.pop("description")
        for example in about.pop("examples", ())[:1]:
            described["example"] = example
        described["schema"] = _without_null(about)
        described["allowEmptyValue"] = not described["required"]
        if described["schema"].get("type") == "array":
            described["explode"] = name in model.repeated
        yield described


def _without_null(schema: Schema) -> Schema:
    """Return the schema of a parameter that may be left out: in a query there is no null."""
    kinds = [kind for kind in schema.get("anyOf", []) if kind != {"type": "null"}]
    rest = {name: value for name, value in schema.items() if name not in ("anyOf", "title")}
    if rest.get("default", ...) is None:
        del rest["default"]
    if "anyOf" not in schema:
        return rest
    return rest | (kinds[0] if len(kinds) == 1 else {"anyOf": kinds})


def _successes(about: Operation, schemas: Mapping[Any, Schema]) -> Schema:
    content: Schema = {}
    if about.answers is not None:
        content = {about.media_type: {"schema": schemas[about.answers]}}
        if about.example is not None:
            content[about.media_type]["example"] = about.example
    answers = {"content": content} if content else {}
    return {str(status): {"description": HTTPStatus(status).phrase, **answers} for status in about.statuses}


def _problems(about: Operation, schema: Schema) -> Schema:
    content = {"application/problem+json": {"schema": schema}}
    return {str(s): {"description": HTTPStatus(s).phrase, "content": content} for s in sorted(about.errors)}
