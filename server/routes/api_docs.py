"""OpenAPI document and the page that shows it."""

from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from server import pages


async def get_openapi(request: Request) -> Response:
    """GET /openapi.json: the OpenAPI 3.1 document."""
    return JSONResponse(request.app.state.openapi)


async def show_docs(request: Request) -> Response:
    """GET /docs: every operation of the API, with a form to try it."""
    return pages.render(request, "api_docs.html", {"document": request.app.state.openapi})
