"""Searches whose words are parsed, over HTTP; tests/server/search has the ranking."""

import re
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import psycopg
import pytest
from PIL import Image

from tests.helpers.pictures import noise
from tests.helpers.processes import Server

pytestmark = pytest.mark.xdist_group("parsed")  # one worker makes the collection for all

THIS_YEAR = datetime.now(UTC).year
PICTURES = [
    # name, camera, year taken, size
    ("snow at home.jpg", "NIKON D850", 2021, (48, 32)),
    ("snow on the roof.jpg", "NIKON D90", 2019, (48, 32)),
    ("snow in town.jpg", "Canon EOS 80D", 2021, (32, 48)),
    ("beach.png", "NIKON D850", THIS_YEAR - 1, (48, 32)),
    ("exit sign.jpg", None, None, (48, 32)),
]


@pytest.fixture(scope="module")
def filled(
    serve_folder: Callable[[Path], Server],
    module_environment: dict[str, str],
    tmp_path_factory: pytest.TempPathFactory,
) -> Server:
    """A server whose collection ``b`` holds PICTURES; that of the exit is red and was taken in Spain."""
    folder = tmp_path_factory.mktemp("pictures")
    for number, (name, camera, year, size) in enumerate(PICTURES):
        picture = noise(number, size) if camera else Image.new("RGB", size, "red")
        exif = Image.Exif()
        if camera:
            exif[0x0110] = camera
            exif.get_ifd(0x8769)[0x9003] = f"{year}:06:15 12:00:00"
        picture.save(folder / name, exif=exif)
    server = serve_folder(folder)
    with psycopg.connect(module_environment["DATABASE_URL"]) as conn:
        conn.execute("INSERT INTO places VALUES (1, 'country', 'Spain', '{spain,spanien}')")
        conn.execute("UPDATE b_images SET places = '{1}' WHERE r2_key LIKE 'exit%'")
    return server


def search(server: Server, q: str, **parameters: Any) -> dict[str, Any]:
    answer: dict[str, Any] = server.get("/api/search", bucket="b", q=q, parse=1, **parameters)
    return answer


def keys(answer: dict[str, Any]) -> list[str]:
    return sorted(image["key"] for image in answer["images"])


def parts(answer: dict[str, Any]) -> list[tuple[str, str]]:
    return [(part["kind"], part["text"]) for part in answer["understood"]["parts"]]


def test_words_a_year_and_a_camera_are_three_parts(filled: Server) -> None:
    answer = search(filled, "snow 2021 nikon")
    assert answer["understood"]["parts"] == [
        {"text": "snow", "kind": "words", "parameters": {"q": ["snow"]}, "meaning": None},
        {
            "text": "2021",
            "kind": "date",
            "parameters": {"taken_after": ["2021-01-01"], "taken_before": ["2022-01-01"]},
            "meaning": "2021",
        },
        {
            "text": "nikon",
            "kind": "camera",
            "parameters": {"camera": ["NIKON D850", "NIKON D90"]},
            "meaning": "NIKON D850, NIKON D90",
        },
    ]
    assert keys(answer) == ["snow at home.jpg"]


def test_the_parameters_of_the_parts_give_the_same_images(filled: Server) -> None:
    answer = search(filled, "snow 2021 -nikon")
    parameters = {name: value for part in answer["understood"]["parts"] for name, value in part["parameters"].items()}
    assert keys(answer) == ["snow in town.jpg"]
    assert keys(filled.get("/api/search", bucket="b", **parameters)) == keys(answer)


def test_without_parse_the_words_are_searched_as_they_are(filled: Server) -> None:
    answer = filled.get("/api/search", bucket="b", q="snow 2021 nikon")
    assert "understood" not in answer
    assert len(answer["images"]) == len(PICTURES)


def test_filters_alone_list_their_images_by_date_without_scores(filled: Server) -> None:
    answer = search(filled, "photos from last year", sort="taken")
    assert keys(answer) == ["beach.png"]
    assert answer["images"][0]["score"] is None
    years = [image["taken_at"][:4] for image in search(filled, "nikon", sort="taken")["images"]]
    assert years == ["2019", "2021", str(THIS_YEAR - 1)]


def test_pages_of_a_parsed_search_neither_repeat_nor_skip(filled: Server) -> None:
    for q, count in (("snow nikon", 3), ("nikon", 3)):
        answer = search(filled, q, limit=1)
        found = keys(answer)
        while answer["next_cursor"]:
            answer = search(filled, q, limit=1, cursor=answer["next_cursor"])
            found += keys(answer)
        assert len(found) == len(set(found)) == count


def test_a_literal_phrase_stays_words(filled: Server) -> None:
    answer = search(filled, "snow 2021 nikon", literal="nikon")
    assert parts(answer) == [("words", "snow nikon"), ("date", "2021")]
    assert keys(answer) == ["snow at home.jpg", "snow in town.jpg"]


def test_a_filter_of_the_request_stays_as_it_is(filled: Server) -> None:
    answer = search(filled, "snow nikon", camera="Canon EOS 80D")
    assert parts(answer) == [("words", "snow nikon")]
    assert keys(answer) == ["snow in town.jpg"]


def test_types_and_shapes_are_understood(filled: Server) -> None:
    assert keys(search(filled, "png")) == ["beach.png"]
    assert keys(search(filled, "snow, hochformat")) == ["snow in town.jpg"]


def test_exact_words_are_in_the_name_in_their_order(filled: Server) -> None:
    assert keys(search(filled, '"exit sign"')) == ["exit sign.jpg"]
    assert keys(search(filled, '"sign exit"')) == []
    assert keys(search(filled, '"snow" "roof"')) == ["snow on the roof.jpg"]
    assert keys(filled.get("/api/images", bucket="b", exact="On The")) == ["snow on the roof.jpg"]


def test_places_and_colours_are_understood(filled: Server) -> None:
    assert keys(search(filled, "sign in spanien")) == ["exit sign.jpg"]
    assert keys(search(filled, "snow, not in Spain")) == sorted(
        name for name, *_ in PICTURES if name != "exit sign.jpg"
    )
    assert keys(search(filled, "mostly red")) == ["exit sign.jpg"]
    suggested = filled.get("/api/suggest", bucket="b", q="sign spa")["suggestions"]
    assert suggested == [{"kind": "place", "value": "Spain", "count": 1, "text": "sign Spain"}]


def test_sizes_are_understood(filled: Server) -> None:
    assert keys(search(filled, "snow, 320x480")) == []
    assert keys(search(filled, "snow over 12 megapixels")) == []
    assert len(keys(search(filled, "snow under 1 mp"))) == len(PICTURES)


def test_an_export_of_a_parsed_search_holds_its_images(filled: Server) -> None:
    body = {"bucket": "b", "q": "snow 2021", "parse": "1", "format": "json"}
    exported = filled.http.post("/api/export", data=body).json()["images"]
    assert sorted(row["key"] for row in exported) == ["snow at home.jpg", "snow in town.jpg"]


@pytest.mark.parametrize("q", ["-a " * 300, "a OR " * 199 + "a"])
def test_too_many_terms_are_refused_with_the_limit(filled: Server, q: str) -> None:
    answer = filled.http.get("/api/search", params={"bucket": "b", "q": q, "parse": "1"})
    assert answer.status_code == 400
    assert re.fullmatch(r"q has [23]00 terms: give at most 16", answer.json()["detail"])


def test_any_words_are_parsed_without_an_error(filled: Server) -> None:
    for q in (
        "-",
        "- -",
        '"',
        '""',
        ",",
        "x" * 1000,
        "2021 " * 200,
        "\u202e1.1.2021",
        "😀",
    ):
        assert filled.http.get("/api/search", params={"bucket": "b", "q": q, "parse": "1"}).status_code == 200
