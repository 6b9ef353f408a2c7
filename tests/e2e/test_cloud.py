"""The cloud setup: images in S3, vectors from Replicate, PostgreSQL behind a pooler in transaction mode.

moto stands in for S3, and a fake with the offline model's vectors for Replicate. The pooler is a real PgBouncer.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx2
import pytest

from tests.fakes.pgbouncer import pooled
from tests.fakes.replicate import replicate_environment, replicate_process
from tests.fakes.s3 import ACCESS_KEY_ID, SECRET_ACCESS_KEY, S3Server
from tests.helpers.pictures import make_pictures
from tests.helpers.processes import CLEAN_ENVIRONMENT, Syncer, serving

WORDS = {"a cat": "cat", "a rocket": "rocket", "a cup of coffee": "coffee", "a motorcycle": "motorcycle"}


@pytest.fixture(scope="module")
def replicate(shared_folder: Path) -> Iterator[str]:
    """The address of a fake Replicate with the offline model's vectors."""
    with replicate_process("--vectors", "offline", "--cache", str(shared_folder / "models")) as address:
        yield address


@pytest.fixture
def cloud(tmp_path: Path, database_url: str, s3: S3Server, replicate: str) -> Iterator[dict[str, str]]:
    """The environment variables of a cloud user."""
    with pooled(database_url) as address:
        yield (
            CLEAN_ENVIRONMENT
            | replicate_environment(replicate)
            | {
                "DATABASE_URL": address,
                "IMAGE_BROWSER_HOME": str(tmp_path / "home"),
                "S3_ENDPOINT_URL": s3.url,
                "R2_ACCESS_KEY_ID": ACCESS_KEY_ID,
                "R2_SECRET_ACCESS_KEY": SECRET_ACCESS_KEY,
            }
        )


def counts(replicate: str) -> Any:
    return httpx2.get(f"{replicate}/_counts").json()


@pytest.mark.parametrize("model", ["openai/clip", "andreasjansson/clip-features"])
def test_real_photos_in_a_bucket_are_found_by_words(
    cloud: dict[str, str], s3: S3Server, replicate: str, photos: Path, tmp_path: Path, model: str
) -> None:
    bucket = model.replace("/", "-")
    s3.make_bucket(bucket)
    cloud["REPLICATE_MODEL"] = model
    count = len(list(photos.iterdir()))
    before = counts(replicate)["predictions"]
    done = Syncer(cloud)("sync", photos, "--bucket", bucket, "--json")
    assert done.status == 0, done.stderr
    assert done.json["uploaded"] == done.json["embedded"] == done.json["total"] == count
    predictions = counts(replicate)["predictions"] - before
    assert predictions == count if model == "openai/clip" else predictions < count

    with serving(cloud, tmp_path / "server.log") as server:
        assert server.get("/readyz") == {"status": "ok", "database": "ok"}
        for words, name in WORDS.items():
            found = server.get("/api/search", bucket=bucket, q=words)["images"]
            # The second model sees previews, in which the astronaut in front of a space shuttle counts as a rocket too.
            close = found[: 1 if model == "openai/clip" else 2]
            image = next((each for each in close if name in each["key"]), None)
            assert image is not None, f"{words} found {[each['key'] for each in close]} first"
            # Presigned: a browser needs no credentials for the private bucket.
            assert httpx2.get(image["url"]).content == (photos / image["key"]).read_bytes()
            assert httpx2.get(image["thumbnail_url"]).headers["content-type"] == "image/webp"
        assert server.get("/api/collections")["collections"][0]["model"] == f"replicate:{model}"


def test_a_model_that_fetches_images_gets_originals_without_previews(
    cloud: dict[str, str], s3: S3Server, tmp_path: Path
) -> None:
    s3.make_bucket("originals")
    make_pictures(tmp_path / "some", 3)
    cloud["REPLICATE_MODEL"] = "andreasjansson/clip-features"
    done = Syncer(cloud)("sync", tmp_path / "some", "--bucket", "originals", "--no-derivatives", "--json")
    assert done.status == 0, done.stderr
    assert done.json["embedded"] == 3


def test_a_model_that_fetches_images_is_refused_with_a_local_folder_store(
    syncer: Syncer, replicate: str, tmp_path: Path
) -> None:
    make_pictures(tmp_path / "some", 1)
    settings = replicate_environment(replicate)
    batch = {**settings, "REPLICATE_MODEL": "andreasjansson/clip-features"}
    refused = syncer("sync", tmp_path / "some", "--bucket", "b", **batch)
    assert refused.status == 1
    assert "S3_ENDPOINT_URL" in refused.stderr
    # No collection was created, so another model can still be chosen.
    assert syncer("sync", tmp_path / "some", "--bucket", "b", **settings).status == 0


def test_the_doctor_approves_the_cloud_setup(cloud: dict[str, str], s3: S3Server) -> None:
    s3.make_bucket("checked")
    done = Syncer(cloud)("doctor", "--json", BUCKET="checked")
    assert done.status == 0, done.stdout
    assert all(check["ok"] for check in done.json["checks"])
