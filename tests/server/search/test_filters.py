"""Filters over HTTP: the same for every list of the API and the gallery."""

import re
from collections import Counter
from collections.abc import Callable
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from tests.helpers.pictures import noise
from tests.helpers.processes import Server

pytestmark = pytest.mark.xdist_group("filters")  # one worker makes the collection for all

CAMERAS = ["Canon EOS 80D", "NIKON D7500", None]
SIZES = [(48, 32), (32, 48), (40, 40)]
FIRST = datetime(2024, 5, 30, 12)


def write_picture(folder: Path, number: int) -> None:
    """Write a picture whose camera, size, type, folder and date depend on its number."""
    path = folder / ["", "trips/rome", "trips/paris", "trips_old"][number % 4] / f"{number:02}"
    path.parent.mkdir(parents=True, exist_ok=True)
    image = noise(number, SIZES[number % 3])
    exif = Image.Exif()
    if camera := CAMERAS[number // 3 % 3]:
        exif[0x0110] = camera
        if number == 4:
            exif.get_ifd(0x8769)[0x9011] = "+07:00"
        exif.get_ifd(0x8769)[0x9003] = (FIRST + timedelta(days=number)).strftime("%Y:%m:%d %H:%M:%S")
    image.save(path.with_suffix(".png" if number % 5 == 0 else ".jpg"), exif=exif)


@pytest.fixture(scope="module")
def filled(serve_folder: Callable[[Path], Server], tmp_path_factory: pytest.TempPathFactory) -> Server:
    """A server whose collection ``b`` holds 24 pictures."""
    folder = tmp_path_factory.mktemp("pictures")
    for number in range(24):
        write_picture(folder, number)
    return serve_folder(folder)


def has_date(number: int) -> bool:
    return CAMERAS[number // 3 % 3] is not None


def is_early(number: int) -> bool:
    return has_date(number) and 1 <= number < 11


@pytest.mark.parametrize(
    ("filters", "expected"),
    [
        ({}, lambda n: True),
        ({"camera": "canon eos 80d"}, lambda n: n // 3 % 3 == 0),
        ({"folder": "trips"}, lambda n: n % 4 in (1, 2)),
        ({"folder": "/trips/rome/"}, lambda n: n % 4 == 1),
        ({"folder": "trip"}, lambda n: False),
        ({"folder": "/"}, lambda n: True),
        ({"orientation": "landscape"}, lambda n: n % 3 == 0),
        ({"orientation": "portrait"}, lambda n: n % 3 == 1),
        ({"orientation": "square"}, lambda n: n % 3 == 2),
        ({"type": "png"}, lambda n: n % 5 == 0),
        ({"type": "image/jpeg"}, lambda n: n % 5 != 0),
        ({"type": "JPG"}, lambda n: n % 5 != 0),
        ({"min_width": 40}, lambda n: n % 3 != 1),
        ({"max_height": 40, "min_height": 33}, lambda n: n % 3 == 2),
        ({"max_size": 0}, lambda n: False),
        ({"min_size": 1}, lambda n: True),
        ({"taken_after": "2024-06-03"}, lambda n: has_date(n) and n >= 4),
        ({"taken_before": "2024-06-03"}, lambda n: has_date(n) and n < 4),
        ({"taken_until": "2024-06-03"}, lambda n: has_date(n) and n <= 4),
        ({"taken_after": "2024-05-31T12:00:00Z", "taken_before": "2024-06-10T12:00"}, is_early),
        ({"taken_after": "2024-05-31T12:00", "taken_before": "2024-05-31T12:00:01"}, lambda n: has_date(n) and n == 1),
        # Picture 4 was taken at 12:00+07:00 on 3 June.
        ({"taken_after": "2024-06-02T12:00Z", "taken_before": "2024-06-03T12:00Z"}, lambda n: n in (3, 4)),
        ({"taken_after": "2024-06-03", "taken_before": "2024-06-04"}, lambda n: n == 4),
        ({"camera": "NIKON D7500", "folder": "trips"}, lambda n: n // 3 % 3 == 1 and n % 4 in (1, 2)),
        ({"camera": ["nikon d7500", "Canon EOS 80D"]}, lambda n: n // 3 % 3 != 2),
        ({"not_camera": "nikon d7500"}, lambda n: n // 3 % 3 != 1),
        ({"folder": ["trips_old", "trips/rome"]}, lambda n: n % 4 in (1, 3)),
        ({"folder": ["trips", "/"]}, lambda n: True),
        ({"folder": "trips", "not_folder": ["trips/rome", "none"]}, lambda n: n % 4 == 2),
        ({"orientation": ["square", "portrait"], "not_orientation": "portrait"}, lambda n: n % 3 == 2),
        ({"type": ["png", "jpg"]}, lambda n: True),
        ({"not_type": ["png", "jpg"]}, lambda n: False),
    ],
)  # fmt: skip
def test_filters_apply_to_every_list(filled: Server, filters: dict[str, Any], expected: Any) -> None:
    every = filled.get("/api/images", bucket="b", limit=200)["images"]
    one = every[0]["id"]
    wanted = sorted(n for n in range(24) if expected(n))

    def numbers(path: str, **parameters: Any) -> list[int]:
        found = filled.all_images(path, limit=5, bucket="b", **filters, **parameters)
        return sorted(int(Path(image["key"]).stem) for image in found)

    assert numbers("/api/images") == wanted
    assert numbers("/api/search", q="colours") == wanted
    assert numbers(f"/api/images/{one}/similar") == [n for n in wanted if n != int(Path(every[0]["key"]).stem)]
    body = {"bucket": "b", "terms": [{"text": "colours"}], "filters": filters, "limit": 200}
    composed = filled.http.post("/api/search", json=body).json()["images"]
    assert sorted(int(Path(image["key"]).stem) for image in composed) == wanted
    for path, address in (
        ("/api/images", {}),
        ("/api/search", {"q": "colours"}),
        (f"/api/images/{one}/similar", {"similar": str(one)}),
    ):
        page = filled.http.get("/", params={"bucket": "b", "limit": 200, **address, **filters})
        listed = filled.get(path, bucket="b", limit=200, **filters, **({"q": "colours"} if "q" in address else {}))
        shown = re.findall(r'<li class="tile[^"]*" data-id="([0-9]+)"', page.text)
        assert [int(image_id) for image_id in shown] == [image["id"] for image in listed["images"]]


def test_times_are_those_of_the_clock_with_their_offset_if_known(filled: Server) -> None:
    found = filled.get("/api/images", bucket="b", limit=200)["images"]
    taken = {int(Path(image["key"]).stem): image["taken_at"] for image in found}
    assert taken[4] == "2024-06-03T12:00:00+07:00"
    assert taken[3] == "2024-06-02T12:00:00"
    assert taken[6] is None


def test_a_cursor_is_refused_for_other_filters(filled: Server) -> None:
    cursor = filled.get("/api/search", bucket="b", q="x", limit=5, type="jpeg")["next_cursor"]
    for filters in ({}, {"type": "png"}, {"type": "jpeg", "min_width": "1"}):
        answer = filled.http.get("/api/search", params={"bucket": "b", "q": "x", "cursor": cursor, **filters})
        assert answer.status_code == 400
    assert filled.get("/api/search", bucket="b", q="x", limit=5, type="image/jpeg", cursor=cursor)["images"]


@pytest.mark.parametrize(
    "wrong",
    [
        {"taken_after": "yesterday"},
        {"taken_before": "2024-13-01"},
        {"taken_before": "2024-05-31T18:00:00-19:04"},
        {"taken_until": "2024-05-31T18:00:00"},
        {"orientation": "diagonal"},
        {"min_width": "-1"},
        {"max_width": "99999999999999999999999"},
        {"min_size": "1e3"},
        {"camera": "\0"},
        {"folder": "a" * 2000},
        {"not_orientation": ["square", "diagonal"]},
        {"type": ["png"] * 21},
        {"strict": "perhaps"},
    ],
)
def test_invalid_filters_are_refused_by_name(filled: Server, wrong: dict[str, Any]) -> None:
    for path in ("/api/images", "/api/search"):
        if path == "/api/images" and "strict" in wrong:
            continue
        answer = filled.http.get(path, params={"bucket": "b", "q": "x"} | wrong)
        assert answer.status_code == 400
        assert next(iter(wrong)) in answer.json()["detail"]


@pytest.mark.parametrize(
    "bound",
    [
        {"min_width": 2**62},
        {"max_size": 2**63 - 1},
        {"taken_after": "9999-12-31"},
        {"taken_until": "9999-12-31"},
        {"taken_after": "0001-01-01"},
    ],
)
def test_extreme_bounds_are_accepted(filled: Server, bound: dict[str, Any]) -> None:
    assert filled.http.get("/api/images", params={"bucket": "b"} | bound).status_code == 200


def test_facets_list_values_with_their_counts(filled: Server) -> None:
    facets = filled.get("/api/facets", bucket="b")
    assert facets["cameras"] == [{"camera": "Canon EOS 80D", "count": 9}, {"camera": "NIKON D7500", "count": 9}]
    assert facets["folders"] == [{"folder": "trips", "count": 12}, {"folder": "trips_old", "count": 6}]
    assert facets["types"] == [{"type": "image/jpeg", "count": 19}, {"type": "image/png", "count": 5}]
    assert facets["first_taken"].startswith("2024-05-30T12:00:00")
    below = filled.get("/api/facets", bucket="b", folder="trips")["folders"]
    assert below == [{"folder": "trips/paris", "count": 6}, {"folder": "trips/rome", "count": 6}]
    assert filled.get("/api/facets", bucket="b", folder="nothing")["folders"] == []
    assert filled.http.get("/api/facets", params={"bucket": "unknown"}).status_code == 404


def test_each_facet_counts_what_passes_the_other_filters(filled: Server) -> None:
    facets = filled.get("/api/facets", bucket="b", camera="nikon d7500", type="png", taken_until="2024-06-09")
    assert facets["cameras"] == [{"camera": "Canon EOS 80D", "count": 2}, {"camera": "NIKON D7500", "count": 1}]
    assert facets["types"] == [{"type": "image/jpeg", "count": 2}, {"type": "image/png", "count": 1}]
    assert facets["folders"] == [{"folder": "trips", "count": 1}]
    assert facets["first_taken"] == facets["last_taken"] == "2024-06-04T12:00:00"


@pytest.mark.parametrize("filters", [{}, {"type": "png"}, {"orientation": "portrait"}])
def test_facets_of_a_search_count_its_strong_matches(filled: Server, filters: dict[str, str]) -> None:
    found = filled.all_images("/api/search", limit=50, bucket="b", q="rome", **filters)
    strong = [image for image in found if not image["weak"]]
    assert 0 < len(strong) < len(found)
    cameras = filled.get("/api/facets", bucket="b", q="rome", **filters)["cameras"]
    expected = Counter(image["camera"] for image in strong if image["camera"])
    assert {each["camera"]: each["count"] for each in cameras} == expected


def test_facets_of_a_search_without_strong_matches_count_all_images(filled: Server) -> None:
    found = filled.all_images("/api/search", limit=50, bucket="b", q="a red boat")
    assert all(image["weak"] for image in found)
    every = filled.get("/api/facets", bucket="b", folder="trips")
    assert filled.get("/api/facets", bucket="b", folder="trips", q="a red boat") == every


def test_facets_of_similar_images_count_their_strong_matches(filled: Server) -> None:
    one = filled.get("/api/images", bucket="b")["images"][0]["id"]
    similar = filled.all_images(f"/api/images/{one}/similar", limit=50, bucket="b")
    strong = Counter(image["content_type"] for image in similar if not image["weak"])
    types = filled.get("/api/facets", bucket="b", similar=one)["types"]
    assert strong
    assert {each["type"]: each["count"] for each in types} == strong
