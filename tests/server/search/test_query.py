"""Weighted sums of terms, on their own and over HTTP with the sample photos."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from server.search.query import weighted_sum
from tests.helpers.composed_queries import find, names, post_terms, upload
from tests.helpers.pictures import picture
from tests.helpers.processes import Server, serving

pytestmark = pytest.mark.xdist_group("photo_server")  # one worker syncs the photos for all


def test_a_weighted_sum_has_unit_length_and_is_none_if_nothing_is_left() -> None:
    one, other = np.eye(2, dtype=np.float32)
    total = weighted_sum([3, -4], [one, other])
    assert total is not None
    vector, length = total
    assert length == pytest.approx(5)
    assert vector == pytest.approx([0.6, -0.8])
    assert weighted_sum([2, -2], [one, one]) is None


def test_a_sum_of_one_text_has_the_results_and_cursors_of_a_text_search(photo_server: Server) -> None:
    by_text = photo_server.get("/api/search", bucket="b", q="a cat", limit=4)
    by_sum = post_terms(photo_server, {"text": "A cat", "weight": 3}, limit=4).json()
    assert by_sum["images"] == by_text["images"]
    following = post_terms(photo_server, {"text": "a cat"}, limit=4, cursor=by_text["next_cursor"]).json()
    assert following == photo_server.get("/api/search", bucket="b", q="a cat", limit=4, cursor=by_text["next_cursor"])


def test_a_sum_ranks_matches_of_all_its_terms_first(photo_server: Server, photo_ids: dict[str, int]) -> None:
    both = names(find(photo_server, {"text": "a cat"}, {"text": "a cup of coffee"}))
    assert set(both[:2]) == {"cat", "coffee"}
    both = names(find(photo_server, {"image_id": photo_ids["motorcycle-left"]}, {"text": "a cup of coffee"}))
    assert set(both[:2]) == {"motorcycle-right", "coffee"}
    assert "motorcycle-left" not in both


def test_a_negative_weight_ranks_matches_lower(photo_server: Server, photo_ids: dict[str, int]) -> None:
    places = {"text": "a motorcycle", "weight": 1}
    before = names(find(photo_server, {"text": "a machine"}, places))
    after = names(find(photo_server, {"text": "a machine"}, places | {"weight": -1}))
    assert set(before[:2]) == {"motorcycle-left", "motorcycle-right"}
    assert after.index("motorcycle-left") > len(after) // 2
    assert after.index("motorcycle-right") > len(after) // 2

    colourful = {"text": "something colourful"}
    assert "flower" in names(find(photo_server, colourful))
    without_flower = find(photo_server, colourful, {"image_id": photo_ids["flower"], "weight": -0.5})
    assert "flower" not in names(without_flower)
    without_cats = names(find(photo_server, {"text": "an animal"}, {"text": "a cat", "weight": -2}))
    assert without_cats[-1] == "cat"


def test_terms_in_a_url_equal_terms_in_a_body(photo_server: Server, photo_ids: dict[str, int]) -> None:
    parameters = [
        ("bucket", "b"),
        ("q", "a cat"),
        ("term", f"0.5*image:{photo_ids['coffee']}"),
        ("term", "-text:a rocket"),
    ]
    answer = photo_server.http.get("/api/search", params=parameters)
    assert answer.status_code == 200, answer.text
    body = post_terms(
        photo_server,
        {"text": "a cat"},
        {"image_id": photo_ids["coffee"], "weight": 0.5},
        {"text": "a rocket", "weight": -1},
    )
    assert body.json() == answer.json()
    page = photo_server.http.get("/", params=parameters)
    assert page.status_code == 200
    for image in answer.json()["images"][:3]:
        assert image["url"].split("?")[0] in page.text


def test_pages_of_a_sum_show_every_image_once_across_servers(
    photo_server: Server, photo_environment: dict[str, str], photo_ids: dict[str, int], tmp_path: Path
) -> None:
    handle = upload(photo_server, picture(0, kind="PNG")).json()["query_image"]
    terms: list[dict[str, Any]] = [
        {"text": "a text of this test alone"},
        {"query_image": handle, "weight": 0.7},
        {"image_id": photo_ids["cat"], "weight": -0.3},
    ]
    seen, cursor = [], None
    with serving(photo_environment, tmp_path / "server.log") as other:
        for page in range(20):
            server = (photo_server, other)[page % 2]
            answer = post_terms(server, *terms, limit=4, **({"cursor": cursor} if cursor else {})).json()
            seen += names(answer["images"])
            cursor = answer["next_cursor"]
            if cursor is None:
                break
    assert sorted(seen) == sorted(set(photo_ids) - {"cat"})
    assert seen == names(find(photo_server, *terms))


def test_a_cursor_is_refused_for_other_terms(photo_server: Server) -> None:
    cursor = post_terms(photo_server, {"text": "a"}, {"text": "b"}, limit=2).json()["next_cursor"]
    assert post_terms(photo_server, {"text": "a"}, {"text": "b"}, limit=2, cursor=cursor).status_code == 200
    for other in ({"text": "c"}, {"text": "b", "weight": 2}, {"text": "b", "weight": -1}):
        assert post_terms(photo_server, {"text": "a"}, other, limit=2, cursor=cursor).status_code == 400


def test_terms_that_cancel_each_other_out_are_refused(
    photo_server: Server, photo_ids: dict[str, int], photos: Path
) -> None:
    answer = post_terms(photo_server, {"text": "a cat"}, {"text": "a  CAT", "weight": -1})
    assert answer.status_code == 400
    assert "cancel each other out" in answer.json()["detail"]
    # The stored vector is rounded, so the difference is rounding error.
    handle = upload(photo_server, (photos / "cat.png").read_bytes()).json()["query_image"]
    answer = post_terms(photo_server, {"image_id": photo_ids["cat"]}, {"query_image": handle, "weight": -1})
    assert answer.status_code == 400


@pytest.mark.parametrize(
    ("body", "words"),
    [
        ('{"terms": []}', "terms"),
        ('{"terms": {}}', "terms"),
        ("{}", "terms is missing"),
        ("[]", "the body"),
        ("nonsense", "not JSON"),
        ("{" * 1000, "not JSON"),
        ('{"terms": [{"text": "a"}], "limit": 0}', "limit is 0"),
        ('{"terms": [{"text": "a"}], "limit": "5"}', "limit is '5'"),
        ('{"terms": [{"text": "a"}], "cursor": "x"}', "cursor"),
        ('{"terms": [{"text": "a"}], "colour": 1}', "colour is unknown"),
        ('{"terms": [{"text": "a"}], "filters": {"min_width": -1}}', "filters.min_width is -1"),
        ('{"terms": [{"text": "a"}], "bucket": 3}', "bucket is 3"),
        ('{"terms": [{"text": "a"}, {"text": "b", "weight": 101}]}', "terms[1].weight is 101"),
        ('{"terms": [{"text": "a", "weight": 0}]}', "terms[0].weight is 0"),
        ('{"terms": [{"text": "a", "weight": 1e400}]}', "terms[0].weight is inf"),
        ('{"terms": [{"text": "a", "weight": NaN}]}', "terms[0].weight is nan"),
        ('{"terms": [{"text": "a", "weight": "1"}]}', "terms[0].weight is '1'"),
        ('{"terms": [{"text": "a", "weight": null}]}', "terms[0].weight is None"),
        ('{"terms": [{"text": ""}]}', "terms[0].text"),
        ('{"terms": [{"text": 5}]}', "terms[0].text"),
        ('{"terms": [{"text": "\\u0000"}]}', "terms[0].text contains NUL or an unpaired surrogate"),
        ('{"terms": [{"text": "\\ud800"}]}', "not JSON"),
        ('{"terms": [{"text": "' + "x" * 10_000 + '"}]}', "terms[0].text has 10,000 characters"),
        ('{"terms": [{"text": "a", "image_id": 1}]}', "terms[0]: give exactly one of"),
        ('{"terms": [{"weight": 1}]}', "terms[0]: give exactly one of"),
        ('{"terms": [{"image_id": 0}]}', "terms[0].image_id is 0"),
        ('{"terms": [{"image_id": 99999999999999999999}]}', "terms[0].image_id"),
        ('{"terms": [{"image_id": true}]}', "terms[0].image_id"),
        ('{"terms": [{"query_image": "../../etc/passwd"}]}', "terms[0].query_image"),
        ('{"terms": [{"image_url": "nowhere"}]}', "terms[0].image_url is 'nowhere'"),
        ('{"terms": [{"image_url": "http://a\\u0000b/"}]}', "terms[0].image_url"),
        ('{"terms": [' + ", ".join(['{"text": "a"}'] * 17) + "]}", "terms has 17 items"),
    ],
)
def test_an_invalid_body_gets_a_400_that_names_the_error(photo_server: Server, body: str, words: str) -> None:
    answer = photo_server.http.post("/api/search", content=body, headers={"Content-Type": "application/json"})
    assert answer.status_code == 400, answer.text
    assert words in answer.json()["detail"]


@pytest.mark.parametrize(
    "query",
    [
        "",
        "?q=",
        "?term=people",
        "?term=%2Btext:people",
        "?term=image:cat",
        "?term=1000*text:a",
        "?term=text:%00",
        "?term=text:" + "x" * 1001,
        "?query_image=short",
        "?" + "&".join(["term=text:a"] * 17),
    ],
)
def test_an_invalid_url_gets_a_400_from_the_api_and_the_gallery(photo_server: Server, query: str) -> None:
    answer = photo_server.http.get(f"/api/search{query}")
    assert answer.status_code == 400
    if query not in ("", "?q="):
        assert photo_server.http.get(f"/{query}").status_code == 400


def test_unknown_images_get_a_404_other_media_types_a_415_and_large_bodies_a_413(
    photo_server: Server, photo_ids: dict[str, int]
) -> None:
    assert post_terms(photo_server, {"image_id": 999_999}).status_code == 404
    assert photo_server.http.post("/api/search", json={"bucket": "c", "terms": [{"text": "a"}]}).status_code == 404
    assert upload(photo_server, picture(0, kind="PNG"), bucket="c").status_code == 404
    assert photo_server.http.post("/api/search", content="{}").status_code == 415
    large = photo_server.http.post(
        "/api/search", content=b" " * (2 << 20), headers={"Content-Type": "application/json"}
    )
    assert large.status_code == 413
