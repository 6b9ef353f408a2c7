"""Collections whose vectors are on the workers of a Citus cluster.

TEST_CITUS_URL names a database of a coordinator with workers. Without it, a function that does nothing stands in for
that of Citus: the statements for placed vectors then run on local tables without foreign keys.
"""

import asyncio
import os
from pathlib import Path
from typing import Any
from uuid import uuid4

import psycopg
import pytest

from tests.helpers.filled_collections import fill_database, unit_vectors
from tests.helpers.pictures import make_pictures, picture
from tests.helpers.processes import Server, Syncer, serving

MODELS = Path(__file__).parents[1] / "golden" / "clip"
SMALL, LARGER = {"CLIP_MODEL": str(MODELS / "transformers_clip")}, {"CLIP_MODEL": str(MODELS / "transformers_siglip2")}
TOKEN = "api-token-of-tests"
STAND_IN = """
    CREATE FUNCTION create_distributed_table(regclass, text, colocate_with text) RETURNS void LANGUAGE sql
    AS 'SELECT'
"""


@pytest.fixture(params=["stand-in", "citus"])
def environment(request: pytest.FixtureRequest, environment: dict[str, str]) -> dict[str, str]:
    if request.param == "citus":
        if "TEST_CITUS_URL" not in os.environ:
            pytest.skip("set TEST_CITUS_URL to a database of a Citus cluster")
        environment["DATABASE_URL"] = os.environ["TEST_CITUS_URL"]
    else:
        query(environment, STAND_IN)
    return environment | {"EMBEDDER": "clip", "API_TOKEN": TOKEN} | SMALL


@pytest.fixture
def bucket() -> str:
    return f"t{uuid4().hex[:10]}"


def query(environment: dict[str, str], statement: str) -> list[Any]:
    with psycopg.connect(environment["DATABASE_URL"], autocommit=True) as conn:
        cursor = conn.execute(statement.encode())
        return cursor.fetchall() if cursor.description else []


def check_place(syncer: Syncer, bucket: str, placement: str) -> None:
    placed = syncer("place", "--bucket", bucket, placement, "--json")
    assert placed.status == 0, placed.stderr
    assert placed.json["placement"] == placement
    if syncer.environment["DATABASE_URL"] == os.environ.get("TEST_CITUS_URL"):
        column = {"local": [], "worker": ["<none>"], "sharded": ["id"]}[placement]
        statement = f"SELECT distribution_column FROM citus_tables WHERE table_name = '{bucket}_embeddings'::regclass"
        assert [found for (found,) in query(syncer.environment, statement)] == column


def statuses(server: Server, bucket: str) -> dict[str, str]:
    images = server.get("/api/images", bucket=bucket, limit=200)["images"]
    assert server.get("/api/stats", bucket=bucket)["total"] == len(images)
    return {image["key"]: image["status"] for image in images}


def vectors(environment: dict[str, str], bucket: str) -> dict[str, int | None]:
    """Return the dimensions of each image's vector by key."""
    return dict(query(environment, f"SELECT r2_key, vector_dims(embedding) FROM {bucket}_embeddings"))


@pytest.mark.parametrize("placement", ["worker", "sharded"])
def test_a_placed_collection_is_synced_re_embedded_and_dropped(
    syncer: Syncer, environment: dict[str, str], bucket: str, placement: str, tmp_path: Path
) -> None:
    folder = tmp_path / "photos"
    pictures = make_pictures(folder, 12)
    first = syncer("sync", folder, "--bucket", bucket)
    assert first.status == 0, first.stderr
    check_place(syncer, bucket, placement)

    def keys() -> set[str]:
        return {path.relative_to(folder).as_posix() for path in folder.rglob("*.jpg")}

    with serving(environment, tmp_path / "log") as server:
        # Every kind of change: new, equal content, edited, renamed, deleted.
        make_pictures(folder, 3, first=20)
        (folder / "copy.jpg").write_bytes(pictures[0].read_bytes())
        pictures[1].write_bytes(picture(100))
        pictures[2].rename(folder / "renamed.jpg")
        pictures[3].unlink()
        done = syncer("sync", folder, "--bucket", bucket, "--delete", "--json")
        assert done.status == 0, done.stderr
        assert statuses(server, bucket) == dict.fromkeys(keys(), "embedded")
        assert vectors(environment, bucket) == dict.fromkeys(keys(), 12)
        equal = server.get("/api/search", bucket=bucket, q="copy")["images"][0]
        assert equal["key"] == "copy.jpg"

        headers = {"Authorization": f"Bearer {TOKEN}", "Content-Type": "image/jpeg"}
        sent = {"bucket": bucket, "key": "sent.jpg"}
        added = server.http.post("/api/images", params=sent, content=picture(200), headers=headers)
        assert (added.status_code, added.json()["status"]) == (201, "embedded"), added.text
        removed = server.http.delete(f"/api/images/{added.json()['id']}", params={"bucket": bucket}, headers=headers)
        assert removed.status_code == 204, removed.text
        assert vectors(environment, bucket).keys() == keys()

        reembedded = syncer("reembed", "--bucket", bucket, **LARGER)
        assert reembedded.status == 0, reembedded.stderr
        (folder / "second copy.jpg").write_bytes(pictures[0].read_bytes())
        pictures[4].rename(folder / "renamed too.jpg")
        pictures[5].unlink()
        done = syncer("sync", folder, "--bucket", bucket, "--delete", "--yes", **LARGER)
        assert done.status == 0, done.stderr
        assert vectors(environment, bucket) == dict.fromkeys(keys(), 16)
        rolled_back = syncer("reembed", "--bucket", bucket, "--rollback")
        assert rolled_back.status == 0, rolled_back.stderr
        assert syncer("embed", "--bucket", bucket).status == 0
        assert vectors(environment, bucket) == dict.fromkeys(keys(), 12)
        assert statuses(server, bucket) == dict.fromkeys(keys(), "embedded")
        refused = syncer("place", "--bucket", bucket, "local")
        assert refused.status == 1
        assert "--forget" in refused.stderr
        assert syncer("reembed", "--bucket", bucket, "--forget").status == 0

        check_place(syncer, bucket, "local")
        assert vectors(environment, bucket) == dict.fromkeys(keys(), 12)
        check_place(syncer, bucket, placement)
        reindexed = syncer("reindex", "--bucket", bucket, "--index", "compact")
        assert reindexed.status == 0, reindexed.stderr
    dropped = syncer("drop", "--bucket", bucket, "--yes")
    assert dropped.status == 0, dropped.stderr
    assert query(environment, f"SELECT tablename FROM pg_tables WHERE tablename LIKE '{bucket}%'") == []


def test_placed_vectors_are_found_like_local_ones(
    syncer: Syncer, environment: dict[str, str], bucket: str, tmp_path: Path
) -> None:
    environment["EMBEDDER"] = "offline"
    asyncio.run(fill_database(environment["DATABASE_URL"], bucket, "offline-v1", unit_vectors(400, 384, seed=1)))

    def found(server: Server, path: str, **parameters: Any) -> list[tuple[str, float]]:
        images = server.all_images(path, bucket=bucket, **parameters)
        return [(image["key"], image["score"]) for image in images[:100]]

    with serving(environment, tmp_path / "log") as server:
        [newest] = server.get("/api/images", bucket=bucket, limit=1)["images"]
        searches: list[tuple[str, dict[str, Any]]] = [
            ("/api/search", {"q": "a boat", "limit": 30}),  # compares all vectors
            ("/api/search", {"q": "000123", "limit": 30}),  # by name
            ("/api/search", {"q": "a boat", "limit": 30, "taken_before": "2024-01-05"}),
            (f"/api/images/{newest['id']}/similar", {"limit": 30}),
        ]
        by_index = {"bucket": bucket, "q": "a boat", "limit": 1}
        before = [found(server, path, **parameters) for path, parameters in searches]
        nearest = server.keys("/api/search", **by_index)
        for placement in ("worker", "sharded", "local"):
            check_place(syncer, bucket, placement)
            assert [found(server, path, **parameters) for path, parameters in searches] == before
            assert server.keys("/api/search", **by_index) == nearest
            assert server.keys("/api/search", **by_index, taken_before="2024-01-05")
    assert syncer("calibrate", "--bucket", bucket).status == 0
    assert syncer("drop", "--bucket", bucket, "--yes", "--keep-objects").status == 0
