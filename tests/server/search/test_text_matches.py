"""Search by names, folders, keywords and captions, over HTTP with the sample photos and the offline model."""

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psycopg
import pytest

from tests.helpers.processes import Server, Syncer

pytestmark = pytest.mark.xdist_group("keywords")  # one worker makes the collection for all

# New names of the sample photos. Few say what the photo shows.
NAMES = {
    "astronaut.png": "IMG_0001.png",
    "brick-wall.png": "IMG_0002.png",
    "photographer.png": "IMG_0003.png",
    "cell.png": "Rechnung März.png",
    "cat.png": "IMG_0005.png",
    "clock-in-motion.png": "cat/IMG_0006.png",
    "coffee.png": "IMG_0007.png",
    "coins.png": "cat/IMG_0008.png",
    "grass.png": "cat/IMG_0009.png",
    "gravel.png": "cat/IMG_0010.png",
    "galaxies.jpg": "cat/IMG_0011.jpg",
    "tissue.png": "cat/IMG_0012.png",
    "moon.png": "cat/IMG_0013.png",
    "motorcycle-left.png": "trips/Rome 2019/DSC00014.png",
    "motorcycle-right.png": "trips/Rome 2019/MyHoliday15.png",
    "retina.jpg": "東京タワーの写真.jpg",
    "rocket.jpg": "IMG_4523.jpg",
    "pagoda.jpg": "cat/IMG_0018.jpg",
    "flower.jpg": "cat/IMG_0019.jpg",
}


@pytest.fixture(scope="module")
def named(
    serve_folder: Callable[[Path], Server],
    module_environment: dict[str, str],
    photos: Path,
    tmp_path_factory: pytest.TempPathFactory,
) -> Server:
    """A server whose collection ``b`` holds the sample photos as NAMES; one has a caption and keywords."""
    folder = tmp_path_factory.mktemp("named")
    for photo, name in NAMES.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(photos / photo, folder / name)
    server = serve_folder(folder)
    with psycopg.connect(module_environment["DATABASE_URL"]) as conn:
        conn.execute(
            "UPDATE b_images SET caption = 'Grandma''s invoice, unpaid', keywords = '{Steuer,privat}'"
            " WHERE r2_key = 'IMG_0007.png'"
        )
        conn.execute(
            "UPDATE b_images SET title = 'Un été à São Paulo', keywords = '{Průhonice,Große Straße,ΛΌΓΟΣ}',"
            """ exif = '{"comment": "İstanbul 🐈‍⬛ ❤️", "city": "Łódź"}' WHERE r2_key = 'IMG_0003.png'"""
        )
    return server


def found(server: Server, text: str, **parameters: Any) -> list[dict[str, Any]]:
    """Return all results of a text, read in pages of four; without filters they must be complete."""
    hits = server.all_images("/api/search", limit=4, bucket="b", q=text, **parameters)
    if not parameters:
        assert sorted(hit["key"] for hit in hits) == sorted(NAMES.values())
    return hits


@pytest.mark.parametrize(
    ("text", "key"),
    [
        ("IMG_4523", "IMG_4523.jpg"),
        ("img_4523.JPG", "IMG_4523.jpg"),
        ("img 4523", "IMG_4523.jpg"),
        ("4523", "IMG_4523.jpg"),
        ("IMG_45", "IMG_4523.jpg"),
        ("DSC00014", "trips/Rome 2019/DSC00014.png"),
        ("trips/rome 2019/dsc00014.png", "trips/Rome 2019/DSC00014.png"),
        ("my holiday", "trips/Rome 2019/MyHoliday15.png"),
        ("myholiday15", "trips/Rome 2019/MyHoliday15.png"),
        ("rechnung", "Rechnung März.png"),
        ("MÄRZ", "Rechnung März.png"),
        ("Ma\u0308rz Rechnung", "Rechnung März.png"),
        ("marz", "Rechnung März.png"),
        ("rechnung marz", "Rechnung März.png"),
        ("Pruhonice", "IMG_0003.png"),
        ("sao paulo", "IMG_0003.png"),
        ("ete", "IMG_0003.png"),
        ("GROSSE STRASSE", "IMG_0003.png"),
        ("λόγος", "IMG_0003.png"),
        ("Istanbul", "IMG_0003.png"),
        ("ıstanbul", "IMG_0003.png"),
        ("lodz", "IMG_0003.png"),
        ("🐈", "IMG_0003.png"),
        ("❤", "IMG_0003.png"),
        ("写真", "東京タワーの写真.jpg"),
        ("タワー", "東京タワーの写真.jpg"),
        ("invoice", "IMG_0007.png"),
        ("unpaid invoice", "IMG_0007.png"),
        ("steuer", "IMG_0007.png"),
    ],
)
def test_words_find_the_image_whose_name_or_metadata_contain_them(named: Server, text: str, key: str) -> None:
    first = found(named, text)[0]
    assert first["key"] == key
    assert first["weak"] is False
    assert -1 <= first["score"] <= 1


@pytest.mark.parametrize("text", ["a rocket launch", "a cup of coffee", "the cat", "holiday in my garden"])
def test_words_in_no_name_rank_by_score_alone(named: Server, text: str) -> None:
    scores = [hit["score"] for hit in found(named, text)]
    assert scores == sorted(scores, reverse=True)


def test_a_matching_folder_does_not_outrank_images_that_look_like_the_query(named: Server) -> None:
    hits = found(named, "cat")
    assert hits[0]["key"] == "IMG_0005.png"
    in_folder = [hit["key"].startswith("cat/") for hit in hits]
    # Other images in the folder precede unrelated ones, and are not weak.
    weak = [hit["weak"] for hit in hits]
    assert weak == sorted(weak)
    assert not any(w for w, inside in zip(weak, in_folder, strict=True) if inside)


def test_strict_searches_leave_out_weak_matches_but_no_text_matches(named: Server) -> None:
    for text in ("rechnung", "cat", "a motorcycle"):
        assert found(named, text, strict=1) == [hit for hit in found(named, text) if not hit["weak"]]


def test_images_are_found_by_name_before_they_are_embedded(
    named: Server, syncer: Syncer, server: Server, photos: Path, tmp_path: Path
) -> None:
    for name in ("invoice 7.png", "other.png"):
        (tmp_path / "photos").mkdir(exist_ok=True)
        shutil.copyfile(photos / "coins.png", tmp_path / "photos" / name)
    assert syncer("upload", tmp_path / "photos", "--bucket", "b").status == 0
    (hit,) = server.get("/api/search", bucket="b", q="invoice")["images"]
    assert (hit["key"], hit["status"], hit["score"], hit["weak"]) == ("invoice 7.png", "pending", None, False)
