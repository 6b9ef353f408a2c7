"""Sums of texts and images, uploaded pictures and their handles: over real HTTP, with the sample photos."""

import base64
import io
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx2
import numpy as np
import psycopg
import pytest
from PIL import Image

from tests.conftest import Server, Syncer, make_environment, make_home, new_database, serving

pytestmark = pytest.mark.xdist_group("composed")  # one worker makes the collection for all


@pytest.fixture(scope="module")
def database_address(postgres: str, template: str) -> Iterator[str]:
    with new_database(postgres, template) as address:
        yield address


@pytest.fixture(scope="module")
def environment(database_address: str, shared_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    home = make_home(tmp_path_factory.mktemp("composed") / "home", shared_folder)
    return make_environment(home, database_address)


@pytest.fixture(scope="module")
def gallery(environment: dict[str, str], photos: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A server whose collection ``b`` holds the sample photos."""
    done = Syncer(environment)("sync", photos, "--bucket", "b")
    assert done.status == 0, done.stderr
    with serving(environment, tmp_path_factory.mktemp("log") / "server.log") as running:
        yield running


@pytest.fixture(scope="module")
def ids(gallery: Server) -> dict[str, int]:
    """The photos' ids by their names."""
    images = gallery.get("/api/images", bucket="b", limit=200)["images"]
    return {Path(image["key"]).stem: image["id"] for image in images}


def post(server: Server, *terms: dict[str, Any], **parameters: Any) -> Any:
    """Return the answer to a composed query."""
    return server.http.post("/api/search", json={"bucket": "b", "terms": list(terms), **parameters})


def found(server: Server, *terms: dict[str, Any], **parameters: Any) -> list[dict[str, Any]]:
    """Return the images that a composed query finds."""
    answer = post(server, *terms, **{"limit": 200} | parameters)
    assert answer.status_code == 200, answer.text
    return answer.json()["images"]


def names(images: list[dict[str, Any]]) -> list[str]:
    return [Path(image["key"]).stem for image in images]


def scores(images: list[dict[str, Any]]) -> dict[str, float]:
    return {Path(image["key"]).stem: image["score"] for image in images}


def upload(server: Server, content: bytes, **parameters: Any) -> Any:
    return server.http.post(
        "/api/query-images", params={"bucket": "b"} | parameters, content=content, headers={"Content-Type": "image/png"}
    )


def picture(seed: int = 0, size: tuple[int, int] = (320, 240)) -> bytes:
    noise = np.random.default_rng(seed).integers(0, 256, (6, 8, 3), dtype=np.uint8)
    file = io.BytesIO()
    Image.fromarray(noise).resize(size).save(file, "PNG")
    return file.getvalue()


# Sums


def test_a_sum_of_one_text_is_what_the_text_finds_and_their_cursors_go_together(gallery: Server) -> None:
    by_text = gallery.get("/api/search", bucket="b", q="a cat", limit=4)
    by_sum = post(gallery, {"text": "A cat", "weight": 3}, limit=4).json()
    assert by_sum["images"] == by_text["images"]
    following = post(gallery, {"text": "a cat"}, limit=4, cursor=by_text["next_cursor"]).json()
    assert following == gallery.get("/api/search", bucket="b", q="a cat", limit=4, cursor=by_text["next_cursor"])


def test_a_sum_finds_what_each_term_alone_puts_lower(gallery: Server, ids: dict[str, int]) -> None:
    both = names(found(gallery, {"text": "a cat"}, {"text": "a cup of coffee"}))
    assert set(both[:2]) == {"cat", "coffee"}
    both = names(found(gallery, {"image_id": ids["motorcycle-left"]}, {"text": "a cup of coffee"}))
    assert set(both[:2]) == {"motorcycle-right", "coffee"}
    assert "motorcycle-left" not in both


def test_a_negative_weight_pushes_away(gallery: Server, ids: dict[str, int]) -> None:
    places = {"text": "a motorcycle", "weight": 1}
    before = names(found(gallery, {"text": "a machine"}, places))
    after = names(found(gallery, {"text": "a machine"}, places | {"weight": -1}))
    assert set(before[:2]) == {"motorcycle-left", "motorcycle-right"}
    assert after.index("motorcycle-left") > len(after) // 2
    assert after.index("motorcycle-right") > len(after) // 2

    flowers = scores(found(gallery, {"text": "something colourful"}))
    fewer = scores(found(gallery, {"text": "something colourful"}, {"image_id": ids["flower"], "weight": -0.5}))
    assert "flower" not in fewer
    assert flowers["flower"] > 0
    without_cats = names(found(gallery, {"text": "an animal"}, {"text": "a cat", "weight": -2}))
    assert without_cats[-1] == "cat"


def test_terms_of_an_address_are_those_of_a_body(gallery: Server, ids: dict[str, int]) -> None:
    address = [("bucket", "b"), ("q", "a cat"), ("term", f"0.5*image:{ids['coffee']}"), ("term", "-text:a rocket")]
    answer = gallery.http.get("/api/search", params=address)
    assert answer.status_code == 200, answer.text
    body = post(
        gallery,
        {"text": "a cat"},
        {"image_id": ids["coffee"], "weight": 0.5},
        {"text": "a rocket", "weight": -1},
    )
    assert body.json() == answer.json()
    page = gallery.http.get("/", params=address)
    assert page.status_code == 200
    for image in answer.json()["images"][:3]:
        assert image["url"].split("?")[0] in page.text


def test_a_composed_walk_shows_every_image_once_also_on_another_server(
    gallery: Server, environment: dict[str, str], ids: dict[str, int], tmp_path: Path
) -> None:
    handle = upload(gallery, picture()).json()["query_image"]
    terms: list[dict[str, Any]] = [
        {"text": "never asked before"},
        {"query_image": handle, "weight": 0.7},
        {"image_id": ids["cat"], "weight": -0.3},
    ]
    seen, cursor = [], None
    with serving(environment, tmp_path / "server.log") as other:
        for turn in range(20):
            server = (gallery, other)[turn % 2]
            answer = post(server, *terms, limit=4, **({"cursor": cursor} if cursor else {})).json()
            seen += names(answer["images"])
            cursor = answer["next_cursor"]
            if cursor is None:
                break
    assert sorted(seen) == sorted(set(ids) - {"cat"})
    assert seen == names(found(gallery, *terms))


def test_a_cursor_belongs_to_its_terms(gallery: Server) -> None:
    cursor = post(gallery, {"text": "a"}, {"text": "b"}, limit=2).json()["next_cursor"]
    assert post(gallery, {"text": "a"}, {"text": "b"}, limit=2, cursor=cursor).status_code == 200
    for other in ({"text": "c"}, {"text": "b", "weight": 2}, {"text": "b", "weight": -1}):
        assert post(gallery, {"text": "a"}, other, limit=2, cursor=cursor).status_code == 400


def test_filters_hold_for_sums_too(gallery: Server) -> None:
    images = found(gallery, {"text": "a cat"}, {"text": "a rocket"}, filters={"orientation": "portrait"})
    assert images
    assert all(image["width"] < image["height"] for image in images)


def test_terms_that_cancel_each_other_out_are_told_so(gallery: Server, ids: dict[str, int], photos: Path) -> None:
    answer = post(gallery, {"text": "a cat"}, {"text": "a  CAT", "weight": -1})
    assert answer.status_code == 400
    assert "cancel each other out" in answer.json()["detail"]
    # The photo's stored vector has been rounded, and what is left is the rounding.
    handle = upload(gallery, (photos / "cat.png").read_bytes()).json()["query_image"]
    answer = post(gallery, {"image_id": ids["cat"]}, {"query_image": handle, "weight": -1})
    assert answer.status_code == 400
