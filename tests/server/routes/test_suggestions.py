"""Suggestions while a query is typed, over HTTP."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import psycopg
import pytest
from PIL import Image

from tests.helpers.pictures import noise
from tests.helpers.processes import Server

pytestmark = pytest.mark.xdist_group("suggestions")  # one worker makes the collection for all

CAMERAS = ["NIKON D850", "NIKON D850", "NIKON D90", "Appareil", None]


@pytest.fixture(scope="module")
def filled(
    serve_folder: Callable[[Path], Server],
    module_environment: dict[str, str],
    tmp_path_factory: pytest.TempPathFactory,
) -> Server:
    """A server whose collection ``b`` has cameras, keywords and names."""
    folder = tmp_path_factory.mktemp("pictures")
    for number, camera in enumerate(CAMERAS):
        exif = Image.Exif()
        if camera:
            exif[0x0110] = camera
        noise(number).save(folder / f"Fête {number}.jpg", exif=exif)
    server = serve_folder(folder)
    with psycopg.connect(module_environment["DATABASE_URL"]) as conn:
        conn.execute("UPDATE b_images SET keywords = '{New York,night}' WHERE camera LIKE 'NIKON%'")
        conn.execute("UPDATE b_images SET keywords = '{Night}' WHERE camera IS NULL")
        conn.execute("UPDATE b_images SET camera = 'Appareil Rêvé' WHERE camera = 'Appareil'")
    return server


def suggest(server: Server, q: str) -> list[tuple[str, str, int]]:
    found: list[dict[str, Any]] = server.get("/api/suggest", bucket="b", q=q)["suggestions"]
    return [(each["kind"], each["text"], each["count"]) for each in found]


def test_cameras_complete_the_last_words(filled: Server) -> None:
    assert suggest(filled, "snow nik") == [("camera", "snow NIKON D850", 2), ("camera", "snow NIKON D90", 1)]
    assert suggest(filled, "snow d8") == [("camera", "snow NIKON D850", 2)]
    assert suggest(filled, "nikon d9") == [("camera", "NIKON D90", 1)]


def test_cameras_are_found_without_accents(filled: Server) -> None:
    assert suggest(filled, "reve") == suggest(filled, "rêve") == [("camera", "Appareil Rêvé", 1)]


def test_keywords_are_counted_in_any_case(filled: Server) -> None:
    assert suggest(filled, "new y") == [("keyword", "New York", 3)]
    assert suggest(filled, "york") == [("keyword", "New York", 3)]
    assert [(kind, text.casefold(), count) for kind, text, count in suggest(filled, "ni")][0] == ("keyword", "night", 4)


def test_names_are_found_without_accents(filled: Server) -> None:
    assert suggest(filled, "fete") == [("name", f"Fête {number}", 1) for number in range(3)]


def test_nothing_is_suggested_for_a_letter_or_a_complete_value(filled: Server) -> None:
    assert suggest(filled, "n") == suggest(filled, "") == suggest(filled, "zzz") == suggest(filled, "new york") == []


def test_any_text_has_an_answer(filled: Server) -> None:
    for q in ("%", "\\", "'", "x" * 1000, "\u202e", "😀😀", "a b " * 200):
        assert filled.http.get("/api/suggest", params={"bucket": "b", "q": q}).status_code == 200
    assert filled.http.get("/api/suggest", params={"bucket": "b", "q": "x" * 1001}).status_code == 400
