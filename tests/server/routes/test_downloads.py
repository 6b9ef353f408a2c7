"""Downloads of a selection, over real HTTP."""

import csv
import io
import zipfile
from typing import Any

import httpx2
import pytest

from tests.helpers.processes import Server
from tests.server.conftest import TOKEN_OF_MINE


def archive_of(response: httpx2.Response) -> zipfile.ZipFile:
    assert response.status_code == 200, response.text
    assert response.headers["content-type"] == "application/zip"
    return zipfile.ZipFile(io.BytesIO(response.content))


def rows_of(response: httpx2.Response) -> list[dict[str, Any]]:
    assert response.status_code == 200, response.text
    rows: list[dict[str, Any]] = response.json()["images"]
    return rows


@pytest.mark.xdist_group("filled")
def test_chosen_images_come_as_a_zip_in_their_order(filled_server: Server) -> None:
    images = filled_server.get("/api/images", bucket="b", limit=3)["images"][::-1]
    ids = [image["id"] for image in images]
    response = filled_server.http.post("/api/zip", json={"bucket": "b", "ids": [*ids, 999_999]})
    archive = archive_of(response)
    assert archive.namelist() == [image["key"] for image in images]
    assert archive.read(images[0]["key"]) == filled_server.http.get(images[0]["url"]).content
    assert response.headers["content-disposition"] == "attachment; filename*=UTF-8''b.zip"
    # As a form without JavaScript sends them: a field for each checkbox, and empty fields of the filters.
    form = {"bucket": "b", "ids": [str(ids[0]), f"{ids[1]},{ids[2]}"], "q": "", "camera": ""}
    assert archive_of(filled_server.http.post("/api/zip", data=form)).namelist() == archive.namelist()


@pytest.mark.xdist_group("filled")
def test_all_that_a_list_or_search_shows_can_be_downloaded(filled_server: Server) -> None:
    image_id = filled_server.get("/api/images", bucket="b", limit=1)["images"][0]["id"]
    for query, path, parameters in (
        ({}, "/api/images", {}),
        ({"folder": "set 1"}, "/api/images", {"folder": "set 1"}),
        ({"q": "blue sky", "term": ["-text:sea"]}, "/api/search", {"q": "blue sky", "term": "-text:sea"}),
        ({"similar": image_id}, f"/api/images/{image_id}/similar", {}),
    ):
        keys = filled_server.keys(path, bucket="b", limit=200, **parameters)
        archive = archive_of(filled_server.http.post("/api/zip", json={"bucket": "b", **query}))
        assert archive.namelist() == keys
        rows = rows_of(
            filled_server.http.post("/api/export", json={"bucket": "b", "format": "json", "limit": 2, **query})
        )
        assert [row["key"] for row in rows] == keys[:2]


@pytest.mark.xdist_group("filled")
def test_an_export_tells_address_and_score(filled_server: Server) -> None:
    hits = filled_server.get("/api/search", bucket="b", q="blue sky", limit=5)["images"]
    query = {"bucket": "b", "q": "blue sky", "ids": [hit["id"] for hit in hits[::-1]]}
    rows = rows_of(filled_server.http.post("/api/export", json={**query, "format": "json"}))
    assert [row["id"] for row in rows] == query["ids"]
    assert [row["score"] for row in rows] == pytest.approx([hit["score"] for hit in hits[::-1]], abs=1e-5)
    assert httpx2.get(rows[0]["url"]).content == filled_server.http.get(hits[-1]["url"]).content
    answer = filled_server.http.post("/api/export", json=query)
    assert answer.headers["content-type"] == "text/csv; charset=utf-8"
    table = list(csv.DictReader(io.StringIO(answer.content.decode("utf-8-sig"))))
    assert [(row["key"], float(row["score"])) for row in table] == [(row["key"], row["score"]) for row in rows]


@pytest.mark.xdist_group("filled")
@pytest.mark.parametrize("path", ["/api/zip", "/api/export"])
def test_a_wrong_selection_is_an_error_before_the_download_begins(filled_server: Server, path: str) -> None:
    for body, status in (
        ({"bucket": "none"}, 404),
        ({"bucket": "b", "ids": list(range(10_001))}, 400),
        ({"bucket": "b", "similar": 999_999}, 404),
        ({"bucket": "b", "cursor": "x"}, 400),
    ):
        assert filled_server.http.post(path, json=body).status_code == status, body
    assert filled_server.http.post(path, data={"bucket": "b", "ids": "x"}).status_code == 400
    assert filled_server.http.post(path, content=b"x").status_code == 415


@pytest.mark.xdist_group("access")
def test_downloads_need_the_right_to_read_and_no_more(guarded_server: Server) -> None:
    http = guarded_server.http
    assert http.post("/api/zip", json={"bucket": "mine"}).status_code == 401
    mine = {"Authorization": f"Bearer {TOKEN_OF_MINE}"}
    assert len(archive_of(http.post("/api/zip", json={"bucket": "mine"}, headers=mine)).namelist()) == 3
    assert http.post("/api/zip", json={"bucket": "yours"}, headers=mine).status_code == 404
    assert http.post("/api/export", json={"bucket": "yours"}, headers=mine).status_code == 404
    cross_site = {"Origin": "https://elsewhere.example"}
    assert http.post("/api/zip", json={"bucket": "mine"}, headers=cross_site).status_code == 403
