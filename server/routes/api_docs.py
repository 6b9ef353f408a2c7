"""OpenAPI document and the page that shows it."""

from typing import Any

from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from server.schemas import openapi

VERSION = "1"  # of the API: additions keep it, a rename or removal would not


async def get_openapi(request: Request) -> Response:
    """GET /openapi.json: the OpenAPI 3.1 document."""
    return JSONResponse(_document(request))


async def show_docs(request: Request) -> Response:
    """GET /docs: every operation of the API, with a form to try it."""
    document = _document(request)
    operations = [
        {"method": method, "path": path, "body_example": _body_example(document, operation), **operation}
        for path, methods in document["paths"].items()
        for method, operation in methods.items()
    ]
    context = {"document": document, "operations": operations, "static": request.app.state.assets.address}
    response: Response = request.app.state.templates.TemplateResponse(request, "api_docs.html", context)
    return response


def _body_example(document: openapi.Schema, operation: openapi.Schema) -> Any:
    """Return an example of the operation's JSON body; an empty object if there is none."""
    schema = operation.get("requestBody", {}).get("content", {}).get("application/json", {}).get("schema", {})
    model = document["components"]["schemas"].get(schema.get("$ref", "").rpartition("/")[2], schema)
    return next(iter(model.get("examples", ())), {})


def _document(request: Request) -> openapi.Schema:
    """Return the document, generated at the first request."""
    state = request.app.state
    if not hasattr(state, "openapi"):
        state.openapi = openapi.document(request.app.routes, version=VERSION)
    document: openapi.Schema = state.openapi
    return document
