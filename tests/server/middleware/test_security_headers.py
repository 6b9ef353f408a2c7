"""Security headers of every response."""

import httpx2
import pytest
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from server.app import create_app
from server.settings import ServerSettings
from tests.helpers.processes import Server


async def fail(_request: Request) -> Response:
    raise RuntimeError("unexpected")


async def test_the_response_to_an_unexpected_error_has_them_too() -> None:
    app = create_app(ServerSettings())
    app.router.routes.append(Route("/api/wrong", fail))
    async with httpx2.AsyncClient(transport=httpx2.ASGITransport(app)) as http:
        answer = await http.get("http://here/api/wrong")
    assert answer.status_code == 500
    assert "RuntimeError" not in answer.text
    assert "default-src 'self'" in answer.headers["content-security-policy"]


@pytest.mark.xdist_group("filled")
def test_the_gallery_allows_no_inline_code_and_refers_to_no_other_host(filled_server: Server) -> None:
    page = filled_server.http.get("/?bucket=b")
    assert "unsafe-inline" not in page.headers["content-security-policy"]
    assert page.headers["x-content-type-options"] == "nosniff"
    assert "https://" not in page.text.replace("http://www.w3.org", "")
