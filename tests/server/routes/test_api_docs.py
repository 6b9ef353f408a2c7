"""The page of the API."""

import re

import pytest
from markupsafe import escape

from tests.helpers.processes import Server


@pytest.mark.xdist_group("filled")
def test_the_page_shows_every_operation_and_loads_nothing_from_other_hosts(filled_server: Server) -> None:
    page = filled_server.http.get("/docs").text
    document = filled_server.get("/openapi.json")
    assert document["openapi"] == "3.1.0"
    for path, operations in document["paths"].items():
        assert f'<code class="path">{path}</code>' in page
        assert all(str(escape(operation["summary"])) in page for operation in operations.values())
    assert not re.findall(r'(?:src|href)="(?:https?:)?//', page)
    assert "<script>" not in page
    assert " style=" not in page
    assert re.search(r" on\w+=", page) is None
