"""The order of lists and the timeline, over real HTTP."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from tests.helpers.pictures import noise
from tests.helpers.processes import Server

pytestmark = pytest.mark.xdist_group("timeline")  # one worker makes the collection for all

# Times in the order of the moments. Images 3 and 4 overlap: at one place it is June when it is still May at the other.
TAKEN = [
    ("2024:03:01 00:00:00", "+00:00"),
    ("2024:03:31 23:59:59", None),
    ("2024:05:10 12:00:00", None),
    ("2024:06:01 08:00:00", "+09:00"),
    ("2024:05:31 23:30:00", "-07:00"),
    ("2024:06:02 00:00:00", None),
    ("2025:01:01 00:00:00", None),
]
UNDATED = 3


@pytest.fixture(scope="module")
def dated(serve_folder: Callable[[Path], Server], tmp_path_factory: pytest.TempPathFactory) -> Server:
    """A server whose collection ``b`` holds pictures with the times above, and some without."""
    folder = tmp_path_factory.mktemp("dated")
    for number in range(len(TAKEN) + UNDATED):
        exif = Image.Exif()
        if number < len(TAKEN):
            time, offset = TAKEN[number]
            exif.get_ifd(0x8769)[0x9003] = time
            if offset:
                exif.get_ifd(0x8769)[0x9011] = offset
        noise(number, (32, 48) if number % 2 else (48, 32)).save(folder / f"{number}.jpg", exif=exif)
    return serve_folder(folder)


def numbers(images: list[dict[str, Any]]) -> list[int]:
    return [int(Path(image["key"]).stem) for image in images]


def listed(server: Server, **parameters: Any) -> list[int]:
    return numbers(server.all_images("/api/images", bucket="b", limit=4, **parameters))


def test_lists_follow_the_moments_at_which_images_were_taken_undated_ones_last(dated: Server) -> None:
    ascending, descending = listed(dated, sort="taken"), listed(dated, sort="-taken")
    assert ascending[: len(TAKEN)] == list(range(len(TAKEN)))
    assert descending[: len(TAKEN)] == list(range(len(TAKEN)))[::-1]
    assert ascending[len(TAKEN) :] == descending[len(TAKEN) :][::-1]
    assert listed(dated) == listed(dated, sort="-created") == listed(dated, sort="created")[::-1]


def whole_list(server: Server, page: dict[str, Any], **parameters: Any) -> list[int]:
    """Return the list of which *page* is a part, read in both directions."""
    found, previous, following = numbers(page["images"]), page["previous_cursor"], page["next_cursor"]
    while previous:
        page = server.get("/api/images", bucket="b", cursor=previous, **parameters)
        found, previous = numbers(page["images"]) + found, page["previous_cursor"]
    while following:
        page = server.get("/api/images", bucket="b", cursor=following, **parameters)
        found, following = found + numbers(page["images"]), page["next_cursor"]
    return found


@pytest.mark.parametrize("sort", ["-created", "created", "-taken", "taken"])
def test_lists_continue_in_both_directions_from_any_image_and_month(dated: Server, sort: str) -> None:
    everything = dated.get("/api/images", bucket="b", sort=sort)["images"]
    for image in everything:
        page = dated.get("/api/images", bucket="b", sort=sort, around=image["id"], limit=3)
        assert whole_list(dated, page, sort=sort, limit=3) == numbers(everything)
    for month in dated.get("/api/timeline", bucket="b", sort=sort)["months"] if "taken" in sort else ():
        page = dated.get("/api/images", bucket="b", sort=sort, cursor=month["cursor"], limit=2)
        assert whole_list(dated, page, sort=sort, limit=2) == numbers(everything)


@pytest.mark.parametrize("sort", ["-taken", "taken"])
def test_each_month_has_its_count_and_a_cursor_to_its_first_image(dated: Server, sort: str) -> None:
    months = dated.get("/api/timeline", bucket="b", sort=sort)["months"]
    counts = [("2024-03", 2), ("2024-05", 2), ("2024-06", 2), ("2025-01", 1)]
    expected = [*(counts if sort == "taken" else counts[::-1]), (None, UNDATED)]
    assert [(each["month"], each["count"]) for each in months] == expected
    everything = listed(dated, sort=sort)
    # By the clock, image 4 is of May and 3 of June.
    first = {"taken": [0, 2, 3, 6], "-taken": [6, 5, 4, 1]}[sort]
    for month, number in zip(months, [*first, everything[len(TAKEN)]], strict=True):
        found = listed(dated, sort=sort, cursor=month["cursor"])
        assert found == everything[everything.index(number) :]


def test_the_timeline_counts_the_images_that_pass_the_filters(dated: Server) -> None:
    months = dated.get("/api/timeline", bucket="b", orientation="portrait")["months"]
    assert [(each["month"], each["count"]) for each in months] == [("2024-06", 2), ("2024-03", 1), (None, 2)]
    found = listed(dated, sort="-taken", orientation="portrait", cursor=months[1]["cursor"])
    assert found == [1, *listed(dated, sort="-taken", orientation="portrait")[-2:]]
    answer = dated.http.get("/api/images", params={"bucket": "b", "sort": "-taken", "cursor": months[1]["cursor"]})
    assert answer.status_code == 400


@pytest.mark.parametrize("strict", [{}, {"strict": "1"}])
def test_searches_can_be_sorted_by_date(dated: Server, strict: dict[str, str]) -> None:
    by_relevance = dated.all_images("/api/search", bucket="b", limit=4, q="some colours")
    for parameters in ({}, {"sort": "relevance"}):
        assert dated.all_images("/api/search", bucket="b", limit=4, q="some colours", **parameters) == by_relevance
    strong = set(numbers([image for image in by_relevance if not image["weak"]]))
    by_date = dated.all_images("/api/search", bucket="b", limit=4, q="some colours", sort="-taken", **strict)
    assert numbers(by_date) == [number for number in listed(dated, sort="-taken") if number in strong]
    body = {"bucket": "b", "terms": [{"text": "some colours"}], "sort": "-taken", "limit": 200}
    assert numbers(dated.http.post("/api/search", json=body).json()["images"]) == numbers(by_date)


def test_an_unknown_order_is_refused(dated: Server) -> None:
    for path, sort in (("/api/images", "relevance"), ("/api/search", "size"), ("/api/timeline", "created")):
        answer = dated.http.get(path, params={"bucket": "b", "q": "x", "sort": sort})
        assert answer.status_code == 400
        assert "sort" in answer.json()["detail"]
