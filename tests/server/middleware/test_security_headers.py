"""Security headers of every response."""

import re

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
        answer = await http.get("http://localhost/api/wrong")
    assert answer.status_code == 500
    assert "RuntimeError" not in answer.text
    assert "default-src 'self'" in answer.headers["content-security-policy"]
    assert answer.headers["cross-origin-resource-policy"] == "same-origin"


@pytest.mark.xdist_group("filled")
@pytest.mark.parametrize("path", ["/?bucket=b", "/docs"])
def test_pages_have_no_inline_code_and_load_nothing_from_other_hosts(filled_server: Server, path: str) -> None:
    page = filled_server.http.get(path).text
    assert not re.findall(r'(?:src|href)="(?:https?:)?//', page)
    assert "<script>" not in page
    assert not re.findall(r" (?:style|on\w+)=", page)
