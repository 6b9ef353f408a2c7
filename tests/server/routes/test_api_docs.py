"""The page of the API."""

import pytest
from markupsafe import escape

from tests.helpers.processes import Server


@pytest.mark.xdist_group("filled")
def test_the_page_shows_every_operation(filled_server: Server) -> None:
    page = filled_server.http.get("/docs").text
    document = filled_server.get("/openapi.json")
    assert document["openapi"] == "3.1.0"
    for path, operations in document["paths"].items():
        assert f'<code class="path">{path}</code>' in page
        for operation in operations.values():
            assert escape(operation["summary"].replace("`", "")) in page
