"""The words in pictures, from a folder to a search."""

from pathlib import Path

import pytest

from tests.helpers.pictures import encode, lettering, noise
from tests.helpers.processes import Server, Syncer


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    folder = tmp_path / "words"
    folder.mkdir()
    for name, text in {"1.jpg": "Invoice 4711\nTotal 47,11 EUR", "2.jpg": "EXIT"}.items():
        (folder / name).write_bytes(encode(lettering(text, size=60)))
    (folder / "3.jpg").write_bytes(encode(noise(1, (640, 480))))
    return folder


def test_pictures_are_found_by_their_words(folder: Path, syncer: Syncer, server: Server) -> None:
    synced = syncer("sync", folder, "--json", OCR="on")
    assert synced.status == 0, synced.stderr
    assert synced.json["read_now"] == 3
    (status,) = syncer("status", "--json").json["buckets"]
    assert status["ocr"] == {"read": 3, "pending": 0, "failed": 0}

    found = server.get("/api/search", bucket="words", q="total 47,11")["images"][0]
    assert (found["key"], found["weak"]) == ("1.jpg", False)
    found = server.get("/api/search", bucket="words", q="exit")["images"][0]
    assert found["key"] == "2.jpg"
    (line,) = server.get(f"/api/images/{found['id']}")["texts"]
    assert line["text"] == "EXIT"
    assert len(line["box"]) == 8


def test_ocr_is_turned_off_and_on_per_collection(folder: Path, syncer: Syncer, server: Server) -> None:
    assert syncer("sync", folder, "--json", OCR="on").json["read_now"] == 3
    # Unset, a collection keeps what it has; another one gets OCR, since its packages are installed.
    (folder / "4.jpg").write_bytes(encode(lettering("WC")))
    assert syncer("sync", folder, "--json", OCR="").json["read_now"] == 1

    assert syncer("embed", "--bucket", "words", OCR="off").status == 0
    (status,) = syncer("status", "--json").json["buckets"]
    assert status["ocr"] is None
    image = server.get("/api/images", bucket="words")["images"][0]
    assert server.get(f"/api/images/{image['id']}", bucket="words")["texts"] == []
    assert syncer("sync", folder, "--json", OCR="").json["read_now"] == 0
    assert syncer("embed", "--bucket", "words", OCR="on").status == 0
    (status,) = syncer("status", "--json").json["buckets"]
    assert status["ocr"]["read"] == 4
