"""OpenAPI document and the page that shows it."""

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
        {"method": method, "path": path, **operation}
        for path, methods in document["paths"].items()
        for method, operation in methods.items()
    ]
    context = {"document": document, "operations": operations}
    response: Response = request.app.state.templates.TemplateResponse(request, "api_docs.html", context)
    return response


def _document(request: Request) -> openapi.Schema:
    """Return the document, generated at the first request."""
    state = request.app.state
    if not hasattr(state, "openapi"):
        state.openapi = openapi.document(request.app.routes, version=VERSION)
    document: openapi.Schema = state.openapi
    return document
