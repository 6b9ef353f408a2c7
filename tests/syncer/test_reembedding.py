"""`syncer reembed` as users run it, with models of different dimensions."""

import json
import os
import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psycopg
import pytest
from PIL import Image

from tests.fakes.pgbouncer import pooled
from tests.fakes.replicate import REFUSED_COLOUR, FakeReplicate, replicate_environment
from tests.helpers.pictures import make_pictures
from tests.helpers.processes import Command, Server, Syncer, serving
from tests.helpers.waiting import wait_until

# CLIP models with a few thousand random weights, of 12 and 16 dimensions.
MODELS = Path(__file__).parents[1] / "golden" / "clip"
SMALL, LARGER = {"CLIP_MODEL": str(MODELS / "transformers_clip")}, {"CLIP_MODEL": str(MODELS / "transformers_siglip2")}
COUNT = 12


@pytest.fixture
def environment(environment: dict[str, str]) -> dict[str, str]:
    return environment | {"EMBEDDER": "clip"} | SMALL


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    make_pictures(tmp_path / "pictures", COUNT)
    return tmp_path / "pictures"


@pytest.fixture
def synced(syncer: Syncer, folder: Path) -> Path:
    """A folder of images, synced to the bucket ``b`` with the small model."""
    done = syncer("sync", folder, "--bucket", "b")
    assert done.status == 0, done.stderr
    return folder


def reembed(syncer: Syncer, *arguments: str, **environment: str) -> Command:
    return syncer("reembed", "--bucket", "b", "--json", *arguments, **(LARGER | environment))


def dimensions(database_url: str, table: str = "b_embeddings") -> dict[str, int | None]:
    """Return the dimensions of each image's vector by key."""
    with psycopg.connect(database_url) as conn:
        return dict(conn.execute(f"SELECT r2_key, vector_dims(embedding) FROM {table}").fetchall())


def read_status(syncer: Syncer) -> Any:
    return syncer("status", "--bucket", "b", "--json").json["buckets"][0]


def test_new_vectors_of_other_dimensions_replace_the_old_ones(syncer: Syncer, synced: Path, database_url: str) -> None:
    before = read_status(syncer)
    done = reembed(syncer)
    assert done.status == 0, done.stderr
    assert done.json["model"].startswith("clip:transformers_siglip2@")
    assert done.json["previous_model"] == before["model"]
    assert (done.json["total"], done.json["embedded"], done.json["pending"]) == (COUNT, COUNT, 0)
    assert set(dimensions(database_url).values()) == {16}
    (collection,) = syncer("buckets", "--json").json["buckets"]
    assert (collection["model"], collection["dimensions"]) == (done.json["model"], 16)
    with psycopg.connect(database_url) as conn:
        indexes = conn.execute("SELECT indexname, indexdef FROM pg_indexes WHERE tablename = 'b_embeddings'").fetchall()
    assert {name for name, _ in indexes} == {"b_embeddings_pkey", "b_embeddings_r2_key_key", "b_hnsw"}
    assert "USING hnsw (embedding halfvec_ip_ops)" in dict(indexes)["b_hnsw"]


def test_a_rollback_restores_the_previous_vectors_and_leaves_newer_images_pending(
    syncer: Syncer, synced: Path, database_url: str
) -> None:
    before = read_status(syncer)
    assert reembed(syncer).status == 0
    make_pictures(synced, 2, first=COUNT)
    edited = make_pictures(synced, 1, first=COUNT + 10)[0]
    edited.replace(synced / "set 0" / "picture-0000.jpg")
    added = syncer("sync", synced, "--bucket", "b", "--json", **LARGER)
    assert (added.json["embedded"], added.json["pending"]) == (COUNT + 2, 0)

    rolled_back = reembed(syncer, "--rollback")
    assert rolled_back.status == 0, rolled_back.stderr
    assert (rolled_back.json["model"], rolled_back.json["pending"], rolled_back.json["embedded"]) == (
        before["model"],
        3,
        COUNT - 1,
    )
    assert set(dimensions(database_url).values()) == {12, None}
    assert syncer("embed", "--bucket", "b", "--json").json["pending"] == 0
    assert set(dimensions(database_url).values()) == {12}

    # Switching again has nothing left to compute.
    again = reembed(syncer)
    assert again.status == 0, again.stderr
    assert set(dimensions(database_url).values()) == {16}


def test_images_added_or_changed_during_a_re_embedding_get_both_vectors(
    syncer: Syncer, synced: Path, database_url: str, replicate: FakeReplicate
) -> None:
    replicate.settings.latency = 0.5
    with running_reembed(syncer, replicate) as running:
        with psycopg.connect(database_url) as conn:
            # Writers of images hold this lock for a moment, and it blocks the switch.
            conn.execute("LOCK TABLE b_images IN ROW EXCLUSIVE MODE")
            make_pictures(synced, 2, first=COUNT)
            (synced / "copy.jpg").write_bytes((synced / "set 2" / "picture-0002.jpg").read_bytes())
            make_pictures(synced, 1, first=COUNT + 10)[0].replace(synced / "set 0" / "picture-0000.jpg")
            synced = syncer("sync", synced, "--bucket", "b", "--json")
            assert synced.status == 0, synced.stderr
            assert (synced.json["pending"], synced.json["embedded"]) == (0, COUNT + 3)
        output, errors = running.communicate(timeout=120)
        assert running.returncode == 0, errors
    assert (json.loads(output)["pending"], json.loads(output)["embedded"]) == (0, COUNT + 3)
    assert set(dimensions(database_url).values()) == {768}
    assert set(dimensions(database_url, "b_next").values()) == {12}
    assert dimensions(database_url).keys() == dimensions(database_url, "b_next").keys()


def test_two_concurrent_re_embeddings_share_the_work(
    syncer: Syncer, synced: Path, database_url: str, replicate: FakeReplicate
) -> None:
    replicate.settings.latency = 0.3
    command = ("reembed", "--bucket", "b", "--json")
    both = [syncer.start(*command, **replicate_environment(replicate.url)) for _ in range(2)]
    for process in both:
        _, errors = process.communicate(timeout=120)
        # One that starts after the switch has nothing to do.
        assert process.returncode == 0 or "nothing to do" in errors
    assert {process.returncode for process in both} <= {0, 1}
    assert set(dimensions(database_url).values()) == {768}
    assert replicate.counts.predictions == COUNT


def test_an_image_refused_by_the_new_model_stays_browsable_and_is_reported(
    syncer: Syncer, synced: Path, server: Server, replicate: FakeReplicate
) -> None:
    Image.new("RGB", (64, 48), REFUSED_COLOUR).save(synced / "refused.png")
    assert syncer("sync", synced, "--bucket", "b").status == 0
    done = syncer("reembed", "--bucket", "b", IMAGE_RETRY_SECONDS="0", **replicate_environment(replicate.url))
    assert done.status == 3, done.stderr
    assert "refused.png: refused_by_model" in done.stdout
    images = server.get("/api/images", bucket="b")["images"]
    assert {image["key"]: image["status"] for image in images}["refused.png"] == "failed"
    assert len(images) == COUNT + 1


def test_a_switch_that_loses_over_a_tenth_of_the_vectors_needs_confirmation(
    syncer: Syncer, folder: Path, database_url: str, home: Path
) -> None:
    assert syncer("sync", folder, "--bucket", "b").status == 0
    for lost in ("set 1/picture-0001.jpg", "set 2/picture-0002.jpg"):
        (home / "buckets" / "b" / lost).unlink()
    refused = reembed(syncer, IMAGE_ATTEMPTS="1")
    assert refused.status == 1
    assert f"2 of {COUNT} images failed" in refused.stderr
    assert set(dimensions(database_url).values()) == {12}
    assert reembed(syncer, "--yes").status == 3
    assert set(dimensions(database_url).values()) == {16, None}


def test_impossible_requests_are_refused_with_the_remedy(syncer: Syncer, synced: Path) -> None:
    for arguments, environment, message in [
        ((), SMALL, "already holds vectors of 'clip:transformers_clip@"),
        (("--rollback",), {}, "no previous vectors"),
        (("--forget",), {}, "no second set of vectors"),
        ((), {"EMBEDDER": ""}, "--embedder"),
    ]:
        refused = reembed(syncer, *arguments, **environment)
        assert (refused.status, refused.stdout) == (1, "")
        assert message in refused.stderr
    assert syncer("reembed", "--bucket", "b", "--embedder", "word2vec").status == 2
    refused = syncer("sync", synced, "--bucket", "b", **LARGER)
    assert refused.status == 1
    assert "syncer reembed --bucket b" in refused.stderr


def test_an_unfinished_re_embedding_is_shown_and_can_be_discarded(
    syncer: Syncer, synced: Path, database_url: str, replicate: FakeReplicate
) -> None:
    assert read_status(syncer)["beside"] is None
    replicate.settings.latency = 30.0
    with running_reembed(syncer, replicate) as running:
        beside = read_status(syncer)["beside"]
        assert (beside["model"], beside["state"], beside["total"]) == ("replicate:openai/clip", "filling", COUNT)
        assert "re-embedding with replicate:openai/clip: " in syncer("status").stdout
        running.terminate()
        running.communicate(timeout=60)
        assert running.returncode == 130

    other = reembed(syncer)
    assert other.status == 1
    assert "is being re-embedded with 'replicate:openai/clip'" in other.stderr
    assert "no previous vectors" in reembed(syncer, "--rollback").stderr
    assert reembed(syncer, "--forget").json["forgotten"] == "replicate:openai/clip"
    assert read_status(syncer)["beside"] is None
    with psycopg.connect(database_url) as conn:
        assert conn.execute("SELECT to_regclass('b_next')").fetchone() == (None,)
        assert conn.execute("SELECT count(*) FROM b_queue").fetchone() == (0,)
    assert reembed(syncer).status == 0
    assert read_status(syncer)["beside"]["state"] == "previous"
    assert syncer("drop", "--bucket", "b", "--yes").status == 0
    with psycopg.connect(database_url) as conn:
        assert conn.execute("SELECT count(*) FROM pg_class WHERE relname LIKE 'b!_%' ESCAPE '!'").fetchone() == (0,)


def test_an_embedding_run_that_loses_its_model_to_a_switch_names_the_remedy(
    syncer: Syncer, synced: Path, database_url: str, home: Path
) -> None:
    assert reembed(syncer).status == 0
    (new,) = make_pictures(synced, 1, first=COUNT)
    assert syncer("upload", synced, "--bucket", "b", **LARGER).status == 0
    (home / "buckets" / "b" / new.relative_to(synced)).unlink()
    with killed_at_the_end(syncer.start("embed", "--bucket", "b", **LARGER, IMAGE_RETRY_SECONDS="300")) as waiting:
        with psycopg.connect(database_url, autocommit=True) as conn:
            wait_until(lambda: conn.execute("SELECT FROM b_queue WHERE attempts = 1").rowcount > 0, waiting)
        assert reembed(syncer, "--rollback").status == 0
        _, errors = waiting.communicate(timeout=120)
    assert waiting.returncode == 1
    assert errors.splitlines()[-1].endswith("run it again")
    assert "Traceback" not in errors


def test_re_embedding_works_through_a_pooler_in_transaction_mode(
    syncer: Syncer, folder: Path, database_url: str
) -> None:
    with pooled(database_url) as address:
        through = {"DATABASE_URL": address}
        assert syncer("sync", folder, "--bucket", "b", **through).status == 0
        done = reembed(syncer, **through)
        assert done.status == 0, done.stderr
        assert set(dimensions(database_url).values()) == {16}
        assert reembed(syncer, "--rollback", **through).status == 0
        assert reembed(syncer, "--forget", **through).status == 0
    assert set(dimensions(database_url).values()) == {12}


def test_a_server_serves_collections_of_different_models_across_a_switch(
    syncer: Syncer, synced: Path, environment: dict[str, str], tmp_path: Path
) -> None:
    assert syncer("sync", synced, "--bucket", "other", EMBEDDER="offline").status == 0
    with serving(environment, tmp_path / "server.log") as server:
        models = {each["bucket"]: each["dimensions"] for each in server.get("/api/collections")["collections"]}
        assert models == {"b": 12, "other": 384}
        for bucket in models:
            assert len(server.keys("/api/search", bucket=bucket, q="a dog")) == COUNT
        assert syncer("reembed", "--bucket", "b", "--embedder", "offline").status == 0
        found = server.get("/api/search", bucket="b", q="a dog")["images"]
        assert found == [image | {"bucket": "b"} for image in found]
        assert [(each["key"], each["score"]) for each in found] == [
            (each["key"], each["score"]) for each in server.get("/api/search", bucket="other", q="a dog")["images"]
        ]


@contextmanager
def running_reembed(syncer: Syncer, replicate: FakeReplicate) -> Iterator["subprocess.Popen[str]"]:
    """Start a re-embedding with Replicate's model and wait for its first model call."""
    command = ("reembed", "--bucket", "b", "--json")
    with killed_at_the_end(syncer.start(*command, **replicate_environment(replicate.url))) as process:
        wait_until(lambda: replicate.counts.predictions > 0, process)
        yield process


@contextmanager
def killed_at_the_end(process: "subprocess.Popen[str]") -> Iterator["subprocess.Popen[str]"]:
    try:
        yield process
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
        process.communicate()
