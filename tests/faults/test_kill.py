"""Processes killed at random moments: nothing is lost, and nothing is done twice."""

import hashlib
import os
import random
import signal
import time
from pathlib import Path

from shared.stores.base import RESERVED_PREFIX
from tests.fakes.replicate import FakeReplicate, Settings, replicate_environment
from tests.helpers.pictures import make_pictures
from tests.helpers.processes import Syncer
from tests.helpers.queries import query

KILLS = 8
IN_FLIGHT = 6  # calls and unstored vectors of one process
SWAPS = 20  # files that swap names in each round; each may cost a vector


def test_a_syncer_killed_twenty_times_uploads_every_image_once(
    syncer: Syncer, home: Path, tmp_path: Path, database_url: str
) -> None:
    folder = tmp_path / "pictures"
    make_pictures(folder, 300)
    rng = random.Random(20)
    bucket = home / "buckets" / "b"
    # No lease has to expire: on one machine it is known that the process has ended.
    syncer = Syncer(syncer.environment | {"LEASE_SECONDS": "600"})
    committed: dict[str, int] = {}  # objects with a row, which must not be written again
    for _ in range(20):
        process = syncer.start("sync", folder, "--bucket", "b")
        time.sleep(rng.uniform(0.6, 2.5))
        os.killpg(process.pid, signal.SIGKILL)
        process.communicate()
        for key, written in _written(bucket, database_url).items():
            assert committed.setdefault(key, written) == written, f"{key} was uploaded again"
    done = syncer("sync", folder, "--bucket", "b", "--json")
    assert done.status == 0, done.stderr
    final = _written(bucket, database_url)
    assert committed.items() <= final.items()

    expected = {path.relative_to(folder).as_posix() for path in folder.rglob("*.jpg")}
    assert _objects(bucket).keys() == expected
    rows = query(database_url, "SELECT r2_key, embedding IS NOT NULL FROM b_embeddings")
    assert sorted(rows) == sorted((key, True) for key in expected)
    assert (done.json["total"], done.json["embedded"], done.json["pending"]) == (300, 300, 0)


def _written(bucket: Path, database_url: str) -> dict[str, int]:
    """Return the modification time of the object of each image with a row, in nanoseconds."""
    rows = query(database_url, "SELECT r2_key FROM b_embeddings")
    return {key: (bucket / key).stat().st_mtime_ns for (key,) in rows}


def _objects(bucket: Path) -> dict[str, bytes]:
    """Return the objects by key, without derivatives."""
    files = {path.relative_to(bucket).as_posix(): path for path in bucket.rglob("*") if path.is_file()}
    return {key: path.read_bytes() for key, path in files.items() if not key.startswith(RESERVED_PREFIX)}


def test_a_folder_that_changes_between_kills_is_synced_in_the_end(
    syncer: Syncer, home: Path, tmp_path: Path, database_url: str
) -> None:
    folder = tmp_path / "pictures"
    make_pictures(folder, 120)
    with FakeReplicate.serving(Settings()) as fake:
        cloud = replicate_environment(fake.url)
        syncer = Syncer(syncer.environment | cloud | {"PYTHONWARNINGS": "ignore", "LEASE_SECONDS": "1"})
        _change_and_kill(syncer, folder)
        # Claims of killed processes expire after two minutes.
        query(database_url, "UPDATE b_pending SET claimed_until = now()")
        done = syncer("sync", folder, "--bucket", "b", "--delete", "--yes", "--json")
    assert (done.status, done.json["pending"]) == (0, 0), f"{done.stdout}{done.stderr}"
    assert fake.counts.creates <= 120 + KILLS * (6 + IN_FLIGHT + SWAPS), "a vector was paid for twice"

    bucket = home / "buckets" / "b"
    expected = {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*.jpg")}
    assert _objects(bucket) == expected
    rows = query(
        database_url,
        "SELECT r2_key, sha256 FROM b_images JOIN b_embeddings USING (id, r2_key) WHERE embedding IS NOT NULL",
    )
    assert dict(rows) == {key: hashlib.sha256(content).digest() for key, content in expected.items()}
    derivatives = {path.stem for path in (bucket / RESERVED_PREFIX / "thumbnails").iterdir()}
    assert derivatives == {hashlib.sha256(content).hexdigest() for content in expected.values()}


def _change_and_kill(syncer: Syncer, folder: Path) -> None:
    """Rename, swap, delete and add files in each round, and kill a sync of it."""
    assert syncer("sync", folder, "--bucket", "b").status == 0
    rng = random.Random(6)
    for round_ in range(KILLS):
        paths = sorted(folder.rglob("*.jpg"))
        rng.shuffle(paths)
        for path in paths[:20]:
            path.rename(path.with_name(f"renamed-{round_}-{path.name}"))
        for a, b in zip(paths[20:30], paths[30:40], strict=True):
            a.rename(folder / "aside")
            b.rename(a)
            (folder / "aside").rename(b)
        for path in paths[40:44]:
            path.unlink()
        make_pictures(folder, 6, first=1000 + 10 * round_)
        process = syncer.start("sync", folder, "--bucket", "b", "--delete", "--yes")
        time.sleep(rng.uniform(0.8, 3.0))
        os.killpg(process.pid, signal.SIGKILL)
        process.communicate()
