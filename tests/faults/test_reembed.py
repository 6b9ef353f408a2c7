"""A re-embedding that is killed many times during searches: no search fails or mixes models, and the result is right.

The collection is created in the database: 2,000 images with random vectors of the offline model's dimensions. The new
model is a CLIP model with a few thousand weights.
"""

import asyncio
import hashlib
import os
import random
import signal
import subprocess
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import psycopg
import pytest
from numpy.typing import NDArray

from shared.embedders.base import ImageInput
from shared.embedders.clip.embedder import ClipEmbedder
from shared.embedders.offline.embedder import OfflineEmbedder
from shared.images.worker_pool import DecoderPool
from shared.models import Collection, NewImage
from shared.sql import collections, images, vector_text
from tests.helpers.pictures import make_pictures
from tests.helpers.processes import Server, Syncer
from tests.helpers.waiting import wait_until

NEW = Path(__file__).parents[1] / "golden" / "clip" / "transformers_clip"
COUNT, KILLS, DIMENSIONS = 2000, 20, 384

Vectors = dict[int, NDArray[np.float32]]


@pytest.fixture
def environment(environment: dict[str, str]) -> dict[str, str]:
    return environment | {"CLIP_MODEL": str(NEW), "LEASE_SECONDS": "1"}


async def make_collection(database_url: str, bucket: Path) -> Collection:
    """Create the collection ``b`` with objects in the folder *bucket*, images and random vectors."""
    rng = np.random.default_rng(1)
    async with await psycopg.AsyncConnection.connect(database_url) as conn:
        collection = await collections.ensure(
            conn, "b", model=OfflineEmbedder.name, dimensions=DIMENSIONS, now=datetime.now(UTC)
        )
        for path in make_pictures(bucket, COUNT):
            image_id = await add(conn, collection, path, bucket)
            vector = rng.normal(size=DIMENSIONS)
            await conn.execute(
                "UPDATE b_embeddings SET embedding = %s::halfvec WHERE id = %s",
                [vector_text((vector / np.linalg.norm(vector)).tolist()), image_id],
            )
        await conn.execute("DELETE FROM b_queue")
    return collection


async def add(conn: psycopg.AsyncConnection[Any], collection: Collection, path: Path, bucket: Path) -> int:
    """Add the row of an image whose object exists."""
    data = path.read_bytes()
    image = NewImage(
        path.relative_to(bucket).as_posix(), hashlib.sha256(data).digest(), len(data), "image/jpeg", 48, 32, "folder"
    )
    return await images.add(conn, collection, image, now=datetime.now(UTC))


def stored(database_url: str, table: str) -> Vectors:
    with psycopg.connect(database_url) as conn:
        rows = conn.execute(f"SELECT id, embedding::real[] FROM {table} WHERE embedding IS NOT NULL").fetchall()
    return {image_id: np.array(vector, np.float32) for image_id, vector in rows}


class BackgroundSearches:
    """A thread that searches by image and by text until the block ends, and then raises the error that stopped it."""

    def __init__(self, server: Server, ids: list[int]) -> None:
        self.answers: list[tuple[int, list[tuple[int, float]]]] = []
        self._server, self._ids = server, ids
        self._stop = threading.Event()
        self._executor = ThreadPoolExecutor(1)

    def __enter__(self) -> "BackgroundSearches":
        self._running = self._executor.submit(self._search)
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._executor.shutdown()
        self._running.result()

    def wait_for(self, count: int) -> None:
        """Return after *count* further searches, or if one has failed."""
        goal = len(self.answers) + count
        wait_until(lambda: len(self.answers) >= goal or self._running.done())

    def _search(self) -> None:
        rng = random.Random(5)
        while not self._stop.wait(0.02):
            image_id = rng.choice(self._ids)
            found = self._server.get(f"/api/images/{image_id}/similar", bucket="b", limit=5)["images"]
            self.answers.append((image_id, [(each["id"], each["score"]) for each in found]))
            words = f"a dog and {len(self.answers) % 50} cats"
            assert len(self._server.get("/api/search", bucket="b", q=words, limit=5)["images"]) == 5


@pytest.mark.timeout(600)
def test_a_re_embedding_killed_twenty_times_during_searches_ends_right(
    syncer: Syncer, server: Server, home: Path, database_url: str
) -> None:
    bucket = home / "buckets" / "b"
    rng = random.Random(20)

    collection = asyncio.run(make_collection(database_url, bucket))
    old = stored(database_url, "b_embeddings")
    with BackgroundSearches(server, sorted(old)[: COUNT // 2]) as searches:
        for number in range(KILLS):
            process = syncer.start("reembed", "--bucket", "b", "--embedder", "clip")
            if number % 5 == 0:
                time.sleep(rng.uniform(0.3, 1.5))  # perhaps before it created the table
            else:
                _await_progress(process, database_url, rng.randrange(1, 100))
            os.killpg(process.pid, signal.SIGKILL)
            process.communicate()
            if number in (3, 9, 15):
                asyncio.run(_change_images(database_url, collection, bucket, number))
        assert syncer("buckets", "--json").json["buckets"][0]["model"] == collection.model
        done = syncer("reembed", "--bucket", "b", "--embedder", "clip", "--json")
        assert done.status == 0, done.stderr
        searches.wait_for(20)

    new, old = stored(database_url, "b_embeddings"), old | stored(database_url, "b_next")
    total = COUNT + 3 * 3 - 3
    assert (done.json["total"], done.json["embedded"], done.json["pending"]) == (total, total, 0)
    assert done.json["model"].startswith("clip:transformers_clip@")
    assert len(new) == total
    _assert_equal(new, asyncio.run(_computed(database_url, bucket, home)))
    models = [_models_of(image_id, answer, (old, new)) for image_id, answer in searches.answers]
    assert all(models), "an answer that mixes models"
    assert set.union(*models) == {0, 1}


def _await_progress(process: "subprocess.Popen[str]", database_url: str, images_done: int) -> None:
    """Wait until this many further images have their new vector."""
    with psycopg.connect(database_url, autocommit=True) as conn:

        def done() -> int:
            if conn.execute("SELECT to_regclass('b_next')").fetchone() == (None,):
                return 0
            return len(conn.execute("SELECT FROM b_next WHERE embedding IS NOT NULL").fetchall())

        goal = done() + images_done
        wait_until(lambda: done() >= goal, process)


async def _change_images(database_url: str, collection: Collection, bucket: Path, number: int) -> None:
    """Add three images (one is a copy), change one and delete one, as a process from before the re-embedding."""
    new, other, changed = make_pictures(bucket, 3, first=COUNT + 10 * number)
    original = make_pictures(bucket, 1, first=number)[0]
    copy = bucket / f"copy {number}.jpg"
    copy.write_bytes(original.read_bytes())
    edited = make_pictures(bucket, 1, first=COUNT - 1 - number)[0]
    changed.replace(edited)
    removed = make_pictures(bucket, 1, first=COUNT - 50 - number)[0].relative_to(bucket).as_posix()

    async with await psycopg.AsyncConnection.connect(database_url) as conn:
        for path in (new, other, copy, edited):
            await add(conn, collection, path, bucket)
        await conn.execute("DELETE FROM b_images WHERE r2_key = %s", [removed])


async def _computed(database_url: str, bucket: Path, home: Path) -> Vectors:
    """Return the new model's vector of each image's object."""
    decoder = DecoderPool()
    embedder = ClipEmbedder(str(NEW), home, decoder)
    with psycopg.connect(database_url) as conn:
        rows = conn.execute("SELECT id, r2_key FROM b_images").fetchall()
    results = await embedder.embed_images([ImageInput((bucket / key).read_bytes()) for _, key in rows])
    await embedder.close()
    await decoder.close()
    return {image_id: np.asarray(result) for (image_id, _), result in zip(rows, results, strict=True)}


def _assert_equal(found: Vectors, expected: Vectors) -> None:
    assert found.keys() == expected.keys()
    for image_id, vector in expected.items():
        np.testing.assert_allclose(found[image_id], vector, atol=2e-3)


def _models_of(image_id: int, answer: list[tuple[int, float]], models: tuple[Vectors, Vectors]) -> set[int]:
    """Return the indexes of the models that give exactly these scores."""
    return {
        number
        for number, vectors in enumerate(models)
        if all(
            found in vectors and abs(float(vectors[image_id] @ vectors[found]) - score) < 2e-3
            for found, score in answer
        )
    }
