"""Adding and deleting images, over real HTTP."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx2
import pytest
from PIL import Image

from tests.helpers.pictures import encode, make_pictures, picture
from tests.helpers.processes import Server, Syncer, serving
from tests.server.conftest import API_TOKEN, Environment, log_of

pytestmark = pytest.mark.xdist_group("writes")  # one worker starts the server once

BEARER = {"Authorization": f"Bearer {API_TOKEN}"}


class Writer:
    """A client with API_TOKEN; the collection ``b`` starts with one synced picture of *folder*."""

    def __init__(self, server: Server, environment: Environment, folder: Path) -> None:
        self.server, self.folder = server, folder
        self.syncer = Syncer(environment)
        self.bucket = Path(environment["IMAGE_BROWSER_HOME"], "buckets", "b")

    def send(self, body: bytes, **parameters: Any) -> httpx2.Response:
        return self.server.http.post(
            "/api/images", params={"bucket": "b"} | parameters, content=body, headers=BEARER, timeout=60
        )

    def add(self, body: bytes, *, status: int = 201, **parameters: Any) -> dict[str, Any]:
        answer = self.send(body, **parameters)
        assert answer.status_code == status, answer.text
        image: dict[str, Any] = answer.json()
        return image

    def delete(self, image_id: int) -> httpx2.Response:
        return self.server.http.delete(f"/api/images/{image_id}", params={"bucket": "b"}, headers=BEARER)

    def image(self, key: str) -> dict[str, Any]:
        return next(each for each in self.server.get("/api/images", bucket="b")["images"] if each["key"] == key)

    def listed(self) -> set[str]:
        return set(self.server.keys("/api/images", bucket="b", limit=200))

    def objects(self) -> set[str]:
        """Return the keys of all objects, without the internal files of the store."""
        paths = (path.relative_to(self.bucket).as_posix() for path in self.bucket.rglob("*") if path.is_file())
        return {path for path in paths if not path.startswith(".image-browser/folder-store/")}

    def sync(self, *flags: str) -> None:
        done = self.syncer("sync", self.folder, "--bucket", "b", *flags)
        assert done.status == 0, done.stderr


@pytest.fixture(scope="module")
def writer(module_environment: Environment, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Writer]:
    folder = tmp_path_factory.mktemp("pictures")
    make_pictures(folder, 1)
    settings = {"API_TOKEN": API_TOKEN, "UPLOAD_MAX_BYTES": "200000"}
    with serving(module_environment | settings, log_of(module_environment)) as running:
        writer = Writer(running, module_environment, folder)
        writer.sync()
        yield writer


def test_an_image_sent_as_body_or_form_can_be_searched_for_at_once(writer: Writer) -> None:
    before = writer.server.get("/api/stats", bucket="b")
    body = picture(101)
    answer = writer.send(body, filename="boat.jpg")
    assert answer.status_code == 201
    image = answer.json()
    assert (image["key"], image["width"], image["height"], image["status"]) == ("boat.jpg", 48, 32, "embedded")
    http = writer.server.http
    assert http.get(answer.headers["location"]).json()["origin"] == "api"
    assert http.get(image["url"]).content == body
    assert http.get(image["thumbnail_url"]).headers["content-type"] == "image/webp"
    assert "boat.jpg" in writer.server.keys("/api/search", bucket="b", q="x", limit=200)

    file = ("C:\\photos\\ship.png", picture(102, kind="PNG"))
    form = http.post("/api/images?bucket=b", files={"file": file}, headers=BEARER)
    assert (form.status_code, form.json()["key"]) == (201, "ship.png")
    assert writer.add(picture(103), key="2024/Sommer/Ü 1.jpg")["key"] == "2024/Sommer/Ü 1.jpg"
    stats = writer.server.get("/api/stats", bucket="b")
    assert (stats["total"], stats["embedded"], stats["pending"]) == (before["total"] + 3, before["embedded"] + 3, 0)


def test_equal_content_gets_the_existing_image_even_when_sent_concurrently(writer: Writer) -> None:
    first = writer.add(picture(111), filename="first.jpg")
    assert writer.add(picture(111), status=200, key="other.jpg")["id"] == first["id"]
    keys, objects = writer.listed(), writer.objects()
    with ThreadPoolExecutor(8) as threads:
        answers = list(threads.map(lambda n: writer.send(picture(112), key=f"copy {n % 4}.jpg"), range(8)))
    assert sorted(answer.status_code for answer in answers) == [200] * 7 + [201]
    assert len({answer.json()["id"] for answer in answers}) == 1
    assert len(writer.listed() - keys) == 1
    # One object, one thumbnail, one preview.
    assert len(writer.objects() - objects) == 3


def test_a_long_file_name_is_cut_to_what_file_systems_allow(writer: Writer) -> None:
    assert writer.add(picture(113), filename="é" * 500)["key"] == "é" * 75
    key = writer.add(picture(114), filename=f"{'é' * 400}.{'ü' * 100}")["key"]
    assert key.startswith("ééé")
    assert ".üüü" in key
    assert len(key.encode()) <= 255


def test_a_taken_key_is_refused_and_a_taken_file_name_gets_another_key(writer: Writer) -> None:
    writer.add(picture(121), key="a.jpg")
    refused = writer.send(picture(122), key="a.jpg")
    assert refused.status_code == 409
    assert "'a.jpg'" in refused.json()["detail"]
    other = writer.add(picture(122), filename="a.jpg")["key"]
    assert other.startswith("a-")
    assert other.endswith(".jpg")


def test_invalid_and_reserved_keys_are_refused(writer: Writer) -> None:
    for key in ("../a.jpg", "a/../b.jpg", "/a.jpg", "a//b.jpg", "a/", "\x01", "\x00", "ü" * 600, "a" * 2000):
        answer = writer.send(picture(131), key=key)
        assert (answer.status_code, bool(answer.json()["detail"])) == (400, True), key
    for reserved in (".image-browser/a.jpg", ".Image-Browser/a.jpg", ".image-browser"):
        assert writer.send(picture(131), key=reserved).status_code == 400
    assert writer.send(picture(131), filename=".image-browser").status_code == 400
    assert writer.add(picture(131), filename=".image-browser/31.jpg")["key"] == "31.jpg"


def test_a_refused_upload_leaves_nothing_behind(writer: Writer) -> None:
    keys, objects = writer.listed(), writer.objects()
    enormous = encode(Image.new("1", (40_000, 40_000)), "PNG")
    for body, parameters, status in (
        (b"", {"filename": "a.jpg"}, 400),
        (picture(141), {}, 400),
        (picture(141), {"filename": ".."}, 400),
        (b"hello", {"filename": "a.jpg"}, 415),
        (b"%PDF-1.7 ...", {"filename": "a.jpg"}, 415),
        (picture(141)[:40], {"filename": "a.jpg"}, 422),
        (enormous[:190_000], {"filename": "a.png"}, 413),
        (b"\xff\xd8\xff" + b"x" * 200_000, {"filename": "a.jpg"}, 413),
        (picture(141), {"filename": "a.jpg", "bucket": "unheard-of"}, 404),
    ):
        answer = writer.send(body, **parameters)
        assert answer.status_code == status, answer.text
        assert answer.headers["content-type"] == "application/problem+json"
    assert (writer.listed(), writer.objects()) == (keys, objects)


def test_a_deleted_image_does_not_come_back_with_the_folder_that_has_it(writer: Writer) -> None:
    before = writer.objects()
    [path] = make_pictures(writer.folder, 1, first=50)
    key = path.relative_to(writer.folder).as_posix()
    writer.sync()
    image = writer.image(key)
    assert writer.add(path.read_bytes(), status=200, filename="x.jpg")["id"] == image["id"]

    assert writer.delete(image["id"]).status_code == 204
    assert writer.delete(image["id"]).status_code == 404
    assert key not in writer.listed()
    assert key not in writer.server.keys("/api/search", bucket="b", q="x", limit=200)
    for address in ("url", "thumbnail_url", "preview_url"):
        assert writer.server.http.get(image[address]).status_code == 404
    assert writer.objects() == before

    kept = writer.listed()
    writer.sync()
    path.touch()
    path = path.rename(path.with_name("renamed.jpg"))
    writer.sync()
    assert writer.listed() == kept

    # Adding it again brings it back; `sync --delete` leaves images of the API alone.
    back = writer.add(path.read_bytes(), filename="back.jpg")
    assert back["status"] == "embedded"
    path.unlink()
    writer.sync("--delete", "--yes")
    assert writer.listed() == {*kept, "back.jpg"}
    assert writer.delete(back["id"]).status_code == 204
    assert writer.objects() == before


def test_deleting_an_adopted_image_leaves_its_object_and_it_is_not_adopted_again(writer: Writer) -> None:
    body = picture(161)
    (writer.bucket / "theirs.jpg").write_bytes(body)
    assert writer.syncer("adopt", "--bucket", "b").status == 0
    image = writer.image("theirs.jpg")
    assert writer.delete(image["id"]).status_code == 204
    assert writer.server.http.get(image["thumbnail_url"]).status_code == 404
    assert (writer.bucket / "theirs.jpg").read_bytes() == body
    assert writer.syncer("adopt", "--bucket", "b").status == 0
    assert "theirs.jpg" not in writer.listed()


@pytest.mark.parametrize(
    "headers", [{}, {"Authorization": "Bearer wrong-wrong-wrong"}, {"Cookie": f"image_browser={API_TOKEN}"}]
)
def test_writing_needs_the_api_token_in_the_header(writer: Writer, headers: dict[str, str]) -> None:
    keys = writer.listed()
    for method, path in (("POST", "/api/images?bucket=b&filename=a.jpg"), ("DELETE", "/api/images/1?bucket=b")):
        answer = writer.server.http.request(method, path, content=picture(171), headers=headers)
        assert answer.status_code == 401
        assert "API_TOKEN" in answer.json()["detail"]
    assert writer.listed() == keys
