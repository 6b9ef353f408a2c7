"""Objects of folder stores, over real HTTP."""

import pytest

from tests.helpers.processes import Server

pytestmark = pytest.mark.xdist_group("filled")


def test_objects_have_etags_and_ranges(filled_server: Server) -> None:
    image = filled_server.get("/api/images", bucket="b", limit=1)["images"][0]
    whole = filled_server.http.get(image["url"])
    assert whole.headers["content-type"] == "image/jpeg"
    assert "immutable" in whole.headers["cache-control"]
    cached = filled_server.http.get(image["url"], headers={"If-None-Match": whole.headers["etag"]})
    assert cached.status_code == 304
    part = filled_server.http.get(image["url"], headers={"Range": "bytes=2-5"})
    assert (part.status_code, part.content) == (206, whole.content[2:6])


@pytest.mark.parametrize(
    "path",
    ["/files/b/../../etc/passwd", "/files/b/%2e%2e/%2e%2e/etc/passwd", "/files/b/nothing.jpg", "/files/c/x"],
)
def test_nothing_outside_the_bucket_is_served(filled_server: Server, path: str) -> None:
    assert filled_server.http.get(path).status_code == 404
