"""Weak matches over HTTP, with the offline model and with a model that has to be calibrated."""

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psycopg
import pytest

from tests.helpers.pictures import make_pictures
from tests.helpers.processes import Server, Syncer, serving
from tests.helpers.query_sentences import (
    ABSENT_CHOOSING,
    ABSENT_REPORTING,
    CHOOSING,
    FOREIGN_REPORTING,
    NONSENSE_CHOOSING,
    NONSENSE_REPORTING,
    REPORTING,
)

pytestmark = pytest.mark.xdist_group("relevance")  # one worker makes the collection for all

CLIP = Path(__file__).parents[2] / "golden" / "clip" / "transformers_clip"  # random weights, 32 dimensions


@pytest.fixture(scope="module")
def gallery(serve_folder: Callable[[Path], Server], photos: Path, tmp_path_factory: pytest.TempPathFactory) -> Server:
    """A server whose collection ``b`` holds the sample photos, named by numbers so that no words match."""
    folder = tmp_path_factory.mktemp("numbered")
    for number, photo in enumerate(sorted(photos.iterdir())):
        shutil.copy(photo, folder / f"{number:02}{photo.suffix}")
    return serve_folder(folder)


@pytest.fixture(scope="module")
def shown(photos: Path) -> dict[str, str]:
    """The subject of each photo by its key."""
    names = [photo.stem.removesuffix("-left").removesuffix("-right") for photo in sorted(photos.iterdir())]
    keys = [f"{number:02}{photo.suffix}" for number, photo in enumerate(sorted(photos.iterdir()))]
    return dict(zip(keys, names, strict=True))


def matches(server: Server, by_label: dict[str, list[str]]) -> list[tuple[str, dict[str, Any]]]:
    """Return the best match of each text with the text's label."""

    def best(text: str) -> dict[str, Any]:
        return server.get("/api/search", bucket="b", q=text, limit=1)["images"][0]

    return [(label, best(text)) for label, texts in by_label.items() for text in texts]


@pytest.mark.parametrize(
    ("sentences", "nonsense", "absent"),
    [(CHOOSING, NONSENSE_CHOOSING, ABSENT_CHOOSING), (REPORTING, NONSENSE_REPORTING, ABSENT_REPORTING)],
    ids=["chosen with", "reported"],
)
def test_matches_of_sentences_are_strong_and_matches_of_nonsense_and_of_absent_things_are_weak(
    gallery: Server,
    shown: dict[str, str],
    sentences: dict[str, list[str]],
    nonsense: dict[str, list[str]],
    absent: dict[str, list[str]],
) -> None:
    true = [match for subject, match in matches(gallery, sentences) if shown[match["key"]] == subject]
    assert len(true) >= 30
    assert sum(not match["weak"] for match in true) >= 0.85 * len(true)
    meaningless = [match["weak"] for _, match in matches(gallery, nonsense)]
    assert sum(meaningless) >= 0.88 * len(meaningless)
    of_absent_things = [match["weak"] for _, match in matches(gallery, absent)]
    assert sum(of_absent_things) >= 0.7 * len(of_absent_things)


def test_sentences_in_other_languages_find_their_photos(gallery: Server, shown: dict[str, str]) -> None:
    found = matches(gallery, FOREIGN_REPORTING)
    true = [match for subject, match in found if shown[match["key"]] == subject]
    # English sentences find .42, and foreign ones found .13 without the bridge.
    assert len(true) >= 0.42 * len(found)
    assert sum(not match["weak"] for match in true) >= 0.85 * len(true)


@pytest.mark.parametrize("text", ["a cat", "a cup of coffee", "blorf", "a photo from outer space"])
def test_weak_matches_come_last_and_strict_leaves_them_out(gallery: Server, text: str) -> None:
    images = gallery.get("/api/search", bucket="b", q=text, limit=200)["images"]
    weak = [image["weak"] for image in images]
    assert weak == sorted(weak)
    good = [image["id"] for image in images if not image["weak"]]
    seen = gallery.all_images("/api/search", limit=2, bucket="b", q=text, strict=1)
    assert [image["id"] for image in seen] == good
    body = {"bucket": "b", "terms": [{"text": text}], "strict": True, "limit": 200}
    assert [image["id"] for image in gallery.http.post("/api/search", json=body).json()["images"]] == good


def test_dissimilar_neighbours_are_weak_and_the_second_view_of_the_motorcycle_is_not(
    gallery: Server, shown: dict[str, str]
) -> None:
    ids = {shown[i["key"]]: i["id"] for i in gallery.get("/api/images", bucket="b", limit=200)["images"]}
    first, *others = gallery.get(f"/api/images/{ids['motorcycle']}/similar", bucket="b", limit=200)["images"]
    assert (shown[first["key"]], first["weak"]) == ("motorcycle", False)
    assert sum(other["weak"] for other in others) >= 0.8 * len(others)


def test_sums_have_weak_matches(gallery: Server, shown: dict[str, str]) -> None:
    def weak(*terms: dict[str, Any]) -> dict[str, bool]:
        answer = gallery.http.post("/api/search", json={"bucket": "b", "terms": terms, "limit": 200}).json()
        return {shown[image["key"]]: image["weak"] for image in answer["images"]}

    both = weak({"text": "a cat"}, {"text": "a cup of coffee"})
    assert not both["cat"]
    assert not both["coffee"]
    assert both["galaxies"]
    one = weak({"text": "a cat"}, {"text": "a cup of coffee", "weight": -1})
    assert not one["cat"]
    assert one["coffee"]


def test_a_model_without_a_background_marks_weak_matches_after_calibration(
    syncer: Syncer, environment: dict[str, str], database_url: str, tmp_path: Path
) -> None:
    clip = {"EMBEDDER": "clip", "CLIP_MODEL": str(CLIP)}
    make_pictures(tmp_path / "pictures", 12)
    assert syncer("sync", tmp_path / "pictures", "--bucket", "b", **clip).status == 0

    def matches(log: str) -> list[dict[str, Any]]:
        with serving(environment | clip, tmp_path / log) as server:
            return server.get("/api/search", bucket="b", q="blorf zug", limit=200)["images"]

    # The first sync calibrates, because the model runs here.
    assert matches("calibrated.log")[-1]["weak"]
    assert "every collection is calibrated" in syncer("doctor", **clip).stdout

    with psycopg.connect(database_url) as conn:
        conn.execute("DELETE FROM calibrations")
    assert not any(match["weak"] for match in matches("before.log"))
    assert "`syncer calibrate --bucket b`" in syncer("doctor", **clip).stdout

    done = syncer("calibrate", "--bucket", "b", "--json", **clip)
    assert done.status == 0, done.stderr
    assert done.json["bucket"] == "b"
    assert done.json["images"] == 12
    assert -1 <= done.json["words_mean"] <= done.json["words_level"] <= 1

    found = matches("after.log")
    assert [match["weak"] for match in found] == [match["score"] < done.json["words_level"] for match in found]
    assert found[-1]["weak"]


def test_calibration_needs_two_images(syncer: Syncer, tmp_path: Path) -> None:
    make_pictures(tmp_path / "pictures", 1)
    assert syncer("sync", tmp_path / "pictures", "--bucket", "b").status == 0
    done = syncer("calibrate", "--bucket", "b")
    assert done.status == 1
    assert "2 are needed" in done.stderr


def test_a_sync_succeeds_where_calibration_fails(syncer: Syncer, tmp_path: Path) -> None:
    model = Path(shutil.copytree(CLIP, tmp_path / "model"))
    (model / "onnx" / "text_model.onnx").write_bytes(b"damaged")
    make_pictures(tmp_path / "pictures", 12)
    done = syncer("sync", tmp_path / "pictures", "--bucket", "b", EMBEDDER="clip", CLIP_MODEL=str(model))
    assert done.status == 0, done.stderr
    assert "b: weak matches are not marked: cannot load" in done.stderr
