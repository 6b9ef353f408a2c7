"""The API's description, and the page to read it and try it."""

from typing import Any

from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from server.routes import gallery
from server.schemas import openapi

VERSION = "1"  # of the API: it is extended, and what stands is neither renamed nor dropped


async def get_openapi(request: Request) -> Response:
    """GET /openapi.json: the description of the API, OpenAPI 3.1."""
    return JSONResponse(_document(request))


async def show_docs(request: Request) -> Response:
    """GET /docs: every operation of the API with a form to try it."""
    document = _document(request)
    operations = [
        {"method": method, "path": path, "body_example": _body_example(document, about), **about}
        for path, methods in document["paths"].items()
        for method, about in methods.items()
    ]
    context = {"document": document, "operations": operations, "static": request.app.state.assets.address}
    return gallery.templates(request).TemplateResponse(request, "docs.html", context)


def _body_example(document: openapi.Schema, operation: openapi.Schema) -> Any:
    """Return an example of the JSON body that an operation reads; an empty object where none is given."""
    schema = operation.get("requestBody", {}).get("content", {}).get("application/json", {}).get("schema", {})
    named = document["components"]["schemas"].get(schema.get("$ref", "").rpartition("/")[2], schema)
    return next(iter(named.get("examples", ())), {})


def _document(request: Request) -> openapi.Schema:
    """Return the document, made when it is first asked for."""
    state = request.app.state
    if not hasattr(state, "openapi"):
        state.openapi = openapi.document(request.app.routes, version=VERSION)
    found: openapi.Schema = state.openapi
    return found
