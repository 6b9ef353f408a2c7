"""Colours, from a folder to a filter."""

from pathlib import Path

import psycopg
import pytest

from tests.helpers.pictures import plain_picture
from tests.helpers.processes import Server, Syncer
from tests.server.conftest import Environment

PICTURES = {"brick": "#a03020", "fire": "#ff2010", "paper": "#fcfcf8", "sea": "#1060c0"}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    folder = tmp_path / "colours"
    folder.mkdir()
    for name, colour in PICTURES.items():
        (folder / f"{name}.png").write_bytes(plain_picture(colour, kind="PNG"))
    return folder


def test_images_are_found_by_their_colours(
    folder: Path, syncer: Syncer, server: Server, environment: Environment
) -> None:
    assert syncer("sync", folder).status == 0

    def check() -> None:
        for parameters, expected in (
            ({"colour": "red"}, ["brick", "fire"]),
            ({"colour": "#a03020"}, ["brick"]),
            ({"colour": ["mostly-white", "1166cc"]}, ["paper", "sea"]),
            ({"not_colour": ["red", "white"]}, ["sea"]),
        ):
            for path, query in (("/api/images", {}), ("/api/search", {"q": "a colour"})):
                found = server.keys(path, bucket="colours", **query, **parameters)
                assert sorted(found) == [f"{name}.png" for name in expected], parameters
        facets = server.get("/api/facets", bucket="colours")["colours"]
        assert {each["colour"]: each["count"] for each in facets} == {"red": 2, "white": 1, "blue": 1}
        (sea,) = server.get("/api/images", bucket="colours", colour="blue")["images"]
        assert server.get(f"/api/images/{sea['id']}", bucket="colours")["colours"] == ["blue"]

    check()
    # As an earlier version left them.
    with psycopg.connect(environment["DATABASE_URL"], autocommit=True) as conn:
        conn.execute("UPDATE colours_images SET colours = NULL")
    assert server.keys("/api/images", bucket="colours", colour="red") == []
    assert syncer("embed", "--bucket", "colours").status == 0
    check()


def test_an_unknown_colour_is_refused_with_the_known_ones(server: Server) -> None:
    refused = server.http.get("/api/images", params={"colour": "beige"})
    assert refused.status_code == 400
    assert "turquoise" in refused.json()["detail"]
