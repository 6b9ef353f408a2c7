"""Objects of folder stores, over real HTTP."""

from pathlib import Path

import pytest

from tests.helpers.pictures import picture
from tests.helpers.processes import Server, Syncer

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


def test_names_with_control_characters_are_served(syncer: Syncer, server: Server, tmp_path: Path) -> None:
    folder = tmp_path / "odd"
    folder.mkdir()
    names = ["line\nbreak.jpg", "tab\there.jpg", 'quote".jpg', "bell\x07\x1b[31m\x9b\ufffe.jpg"]
    for number, name in enumerate(names):
        (folder / name).write_bytes(picture(number))
    assert syncer("upload", folder, "--bucket", "odd").status == 0
    images = server.get("/api/images", bucket="odd")["images"]
    assert sorted(image["key"] for image in images) == sorted(names)
    for image in images:
        assert server.http.get(image["url"]).content == (folder / image["key"]).read_bytes()
        assert server.http.get(image["thumbnail_url"]).headers["content-type"] == "image/webp"
    assert "line\nbreak.jpg" in server.http.get("/?bucket=odd").text


@pytest.mark.parametrize(
    "path",
    ["/files/b/../../etc/passwd", "/files/b/%2e%2e/%2e%2e/etc/passwd", "/files/b/nothing.jpg", "/files/c/x"],
)
def test_nothing_outside_the_bucket_is_served(filled_server: Server, path: str) -> None:
    assert filled_server.http.get(path).status_code == 404
