"""Places, from the coordinates of photos to a search."""

from pathlib import Path

import psycopg
import pytest
from PIL import Image

from tests.helpers.pictures import noise
from tests.helpers.processes import Server, Syncer
from tests.server.conftest import Environment

POSITIONS = {"cathedral": (45.464, 9.190), "beach": (41.385, 2.190), "tower": (35.659, 139.745), "indoors": None}
SIDECAR = """<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#">
<rdf:Description xmlns:exif="http://ns.adobe.com/exif/1.0/" exif:GPSLatitude="40,25.0N" exif:GPSLongitude="3,42.0W"/>
</rdf:RDF></x:xmpmeta>"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    folder = tmp_path / "trips"
    folder.mkdir()
    for number, (name, position) in enumerate(POSITIONS.items()):
        exif = Image.Exif()
        if position:
            latitude, longitude = position
            exif.get_ifd(0x8825).update({1: "N", 2: (latitude, 0, 0), 3: "E", 4: (longitude, 0, 0)})
        noise(number).save(folder / f"{name}.jpg", exif=exif)
    return folder


def test_photos_are_found_by_the_names_of_their_places(
    folder: Path, syncer: Syncer, server: Server, environment: Environment
) -> None:
    assert syncer("sync", folder).status == 0

    for parameters, expected in (
        ({"place": "Spain"}, ["beach"]),
        ({"place": "spanien"}, ["beach"]),
        ({"place": ["Mailand", "東京"]}, ["cathedral", "tower"]),
        ({"not_place": "Japan"}, ["beach", "cathedral", "indoors"]),
        ({"place": "Mila, Italy"}, []),
    ):
        for path, query in (("/api/images", {}), ("/api/search", {"q": "noise"})):
            found = server.keys(path, bucket="trips", **query, **parameters)
            assert sorted(found) == [f"{name}.jpg" for name in expected], parameters

    for words, expected_first in {"Spain": "beach", "Tokio tower": "tower", "cathedral mailand": "cathedral"}.items():
        first = server.get("/api/search", bucket="trips", q=words)["images"][0]
        assert (first["key"], first["weak"]) == (f"{expected_first}.jpg", False)

    counts = {each["place"]: each["count"] for each in server.get("/api/facets", bucket="trips")["places"]}
    assert counts.items() >= {"Milan": 1, "Italy": 1, "Barcelona": 1, "Spain": 1, "Tokyo": 1, "Japan": 1}.items()

    def places(name: str) -> list[str]:
        (image,) = [
            each for each in server.get("/api/images", bucket="trips")["images"] if each["key"] == f"{name}.jpg"
        ]
        found: list[str] = server.get(f"/api/images/{image['id']}", bucket="trips")["places"]
        return found

    assert places("cathedral") == ["Milan", "Italy"]
    assert places("indoors") == []

    (folder / "cathedral.xmp").write_text(SIDECAR, encoding="utf-8")
    assert syncer("sync", folder).status == 0
    assert places("cathedral")[-2:] == ["Madrid", "Spain"]

    # As an earlier version left them.
    with psycopg.connect(environment["DATABASE_URL"], autocommit=True) as conn:
        conn.execute("UPDATE trips_images SET places = NULL")
    assert syncer("embed", "--bucket", "trips").status == 0
    assert sorted(server.keys("/api/images", bucket="trips", place="Spain")) == ["beach.jpg", "cathedral.jpg"]
