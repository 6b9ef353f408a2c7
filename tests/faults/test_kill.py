"""The plug pulled at random moments: nothing is lost, nothing is done twice."""

import os
import random
import signal
import time
from collections import Counter
from pathlib import Path

import psycopg

from shared.stores import RESERVED_PREFIX
from tests.conftest import Syncer
from tests.pictures import make_pictures


def test_a_syncer_killed_twenty_times_leaves_every_image_once(
    syncer: Syncer, home: Path, tmp_path: Path, database_url: str
) -> None:
    folder = tmp_path / "pictures"
    make_pictures(folder, 300)
    rng = random.Random(20)
    bucket = home / "buckets" / "b"
    committed: dict[str, int] = {}  # what had its row when the plug was pulled: never written again
    for _ in range(20):
        process = syncer.start("sync", folder, "--bucket", "b")
        time.sleep(rng.uniform(0.6, 2.5))
        os.killpg(process.pid, signal.SIGKILL)
        process.communicate()
        for key, written in _written(bucket, database_url).items():
            assert committed.setdefault(key, written) == written, f"{key} was uploaded again"
    done = syncer("sync", folder, "--bucket", "b", "--json", LEASE_SECONDS="1")
    assert done.status == 0, done.stderr
    final = _written(bucket, database_url)
    assert committed.items() <= final.items()

    expected = {path.relative_to(folder).as_posix() for path in folder.rglob("*.jpg")}
    objects = Counter(
        path.relative_to(bucket).as_posix()
        for path in bucket.rglob("*")
        if path.is_file() and not path.relative_to(bucket).as_posix().startswith(RESERVED_PREFIX)
    )
    assert set(objects) == expected
    with psycopg.connect(database_url) as conn:
        rows = conn.execute("SELECT r2_key, embedding IS NOT NULL FROM b_embeddings").fetchall()
    assert sorted(key for key, _ in rows) == sorted(expected)
    assert all(embedded for _, embedded in rows)
    assert (done.json["total"], done.json["embedded"], done.json["pending"]) == (300, 300, 0)


def _written(bucket: Path, database_url: str) -> dict[str, int]:
    """Return when the object of each image with a row was written, in nanoseconds."""
    with psycopg.connect(database_url) as conn:
        if conn.execute("SELECT to_regclass('b_embeddings')").fetchone() == (None,):
            return {}
        keys = [key for (key,) in conn.execute("SELECT r2_key FROM b_embeddings")]
    return {key: (bucket / key).stat().st_mtime_ns for key in keys}
