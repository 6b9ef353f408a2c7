"""HTML pages in the reader's language."""

from collections.abc import Mapping
from typing import Any

from starlette.requests import Request
from starlette.responses import Response

from server import translations


def render(
    request: Request,
    template: str,
    variables: Mapping[str, Any],
    *,
    status_code: int = 200,
    headers: Mapping[str, str] | None = None,
) -> Response:
    """Return the page of a template, whose texts have the language that the request prefers."""
    catalogue = translations.preferred(request.headers.get("Accept-Language", ""))
    response: Response = request.app.state.templates.TemplateResponse(
        request,
        template,
        {**variables, "catalogue": catalogue, "text": catalogue.text},
        status_code=status_code,
        headers=headers,
    )
    response.headers.add_vary_header("Accept-Language")
    return response
