"""The main use: sync a folder, then find its photos by words and by similarity."""

import shutil
from pathlib import Path

from tests.helpers.pictures import make_pictures
from tests.helpers.processes import Server, Syncer


def test_photos_are_found_by_their_content(syncer: Syncer, server: Server, photos: Path) -> None:
    done = syncer("sync", photos, "--bucket", "my-photos", "--json")
    assert done.status == 0, done.stderr
    count = len(list(photos.iterdir()))
    assert done.json["uploaded"] == done.json["embedded"] == done.json["total"] == count

    for words, name in {
        "a cat": "cat",
        "a rocket": "rocket",
        "a cup of coffee": "coffee",
        "a motorcycle": "motorcycle",
    }.items():
        first = server.get("/api/search", bucket="my-photos", q=words)["images"][0]
        assert name in first["key"], f"{words} found {first['key']} first"
        assert -1 <= first["score"] <= 1

    recent = server.get("/api/images", bucket="my-photos", limit=200)["images"]
    assert {image["status"] for image in recent} == {"embedded"}
    motorcycle = next(image for image in recent if "motorcycle" in image["key"])
    neighbours = server.keys(f"/api/images/{motorcycle['id']}/similar", bucket="my-photos", limit=200)
    assert motorcycle["key"] not in neighbours
    assert len(neighbours) == count - 1
    assert "motorcycle" in neighbours[0]


def test_images_are_browsable_before_they_are_embedded_and_searchable_after(
    syncer: Syncer, server: Server, tmp_path: Path
) -> None:
    make_pictures(tmp_path / "some", 5)
    assert syncer("upload", tmp_path / "some", "--bucket", "b").status == 0
    browsed = server.get("/api/images", bucket="b")["images"]
    assert len(browsed) == 5
    assert {image["status"] for image in browsed} == {"pending"}
    assert server.keys("/api/search", bucket="b", q="noise") == []
    assert server.keys(f"/api/images/{browsed[0]['id']}/similar", bucket="b") == []
    assert server.get("/api/stats", bucket="b")["pending"] == 5
    assert syncer("status", "--json").json["buckets"][0]["pending"] == 5

    embedded = syncer("embed", "--bucket", "b", "--json")
    assert embedded.status == 0
    assert embedded.json["embedded_now"] == 5
    assert len(server.keys("/api/search", bucket="b", q="noise")) == 5


def test_bad_files_are_reported_by_name_and_the_others_are_synced(syncer: Syncer, tmp_path: Path) -> None:
    folder = tmp_path / "mixed"
    good = make_pictures(folder, 4)
    (folder / "text.jpg").write_text("I am no picture")
    (folder / "empty.png").touch()
    whole = good[0].read_bytes()
    (folder / "header only.jpg").write_bytes(whole[:200])
    (folder / "notes.txt").write_text("left alone")
    done = syncer("sync", folder, "--bucket", "b")
    assert done.status == 3
    for name in ("text.jpg", "empty.png", "header only.jpg"):
        assert name in done.stderr
    status = syncer("status", "--bucket", "b", "--json").json["buckets"][0]
    assert (status["total"], status["embedded"], status["pending"], status["failed"]) == (7, 4, 0, 3)
    assert status["reasons"]["empty_file"] == status["reasons"]["not_an_image"] == 1
    failed = {row["key"]: row["reason"] for row in syncer("failed", "--bucket", "b", "--json").json["failed"]}
    assert failed.keys() == {"text.jpg", "empty.png", "header only.jpg"}
    again = syncer("sync", folder, "--bucket", "b", "--json")
    assert again.status == 3
    assert (again.json["uploaded"], again.json["embedded_now"], again.json["unchanged"]) == (0, 0, 4)

    shutil.copy(good[1], folder / "text.jpg")
    fixed = syncer("sync", folder, "--bucket", "b", "--json").json
    assert (fixed["uploaded"], fixed["failed"], fixed["embedded"]) == (1, 2, 5)


def test_an_edited_photo_is_uploaded_and_embedded_again(
    syncer: Syncer, server: Server, photos: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "edited"
    folder.mkdir()
    cat, coffee = (next(photos.glob(f"*{name}*")) for name in ("cat", "coffee"))
    picture = folder / "picture.png"
    shutil.copy(cat, picture)
    assert syncer("sync", folder, "--bucket", "b").status == 0
    before = server.get("/api/images", bucket="b")["images"][0]
    shutil.copy(coffee, picture)
    done = syncer("sync", folder, "--bucket", "b", "--json").json
    assert (done["total"], done["uploaded"], done["embedded_now"]) == (1, 1, 1)
    after = server.get("/api/search", bucket="b", q="a cup of coffee")["images"][0]
    assert after["id"] == before["id"]
    assert after["score"] > 0.3
    assert after["url"] != before["url"]
    assert server.http.get(after["url"]).content == coffee.read_bytes()


def test_buckets_of_any_name_work(syncer: Syncer, server: Server, tmp_path: Path) -> None:
    make_pictures(tmp_path / "few", 2)
    for name in ("2024-photos", 'it\'s "quoted"', "ünï códe", "x" * 60):
        done = syncer("upload", tmp_path / "few", "--bucket", name, "--json")
        assert done.status == 0, done.stderr
        image = server.get("/api/images", bucket=name)["images"][1]
        assert server.http.get(image["url"]).headers["content-type"] == "image/jpeg"
        assert server.http.get(image["thumbnail_url"]).headers["content-type"] == "image/webp"


def test_buckets_with_similar_names_do_not_share_a_table(syncer: Syncer, tmp_path: Path) -> None:
    for number, bucket in enumerate(["my-photos", "my.photos", "my_photos"]):
        folder = tmp_path / str(number)
        make_pictures(folder, number + 1, first=number * 10)
        assert syncer("upload", folder, "--bucket", bucket).status == 0
    totals = {row["bucket"]: row["total"] for row in syncer("status", "--json").json["buckets"]}
    assert totals == {"my-photos": 1, "my.photos": 2, "my_photos": 3}


def test_unusable_arguments_and_settings_are_reported_in_one_message(syncer: Syncer, tmp_path: Path) -> None:
    missing = syncer("sync", tmp_path / "nowhere", "--bucket", "b")
    assert missing.status == 1
    assert "nowhere" in missing.stderr
    unknown = syncer("embed", "--bucket", "unheard-of")
    assert unknown.status == 1
    assert "unheard-of" in unknown.stderr
    assert syncer("frobnicate").status == 2
    several = syncer("status", EMBEDDER="gpt", UPLOAD_CONCURRENCY="many")
    assert several.status == 1
    assert "EMBEDDER" in several.stderr
    assert "UPLOAD_CONCURRENCY" in several.stderr
