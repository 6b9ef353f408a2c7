"""Interrupted runs release their leases; outages are retried and count against no image."""

import json
import signal
import sys
from pathlib import Path

import psycopg
import pytest

from tests.fakes.replicate import FakeReplicate, replicate_environment
from tests.helpers.pictures import make_pictures
from tests.helpers.processes import Syncer
from tests.helpers.waiting import wait_until

WITHOUT_MEMORY = """
from shared.embedders.offline.embedder import OfflineEmbedder
from syncer.cli import main

async def embed_images(*_: object) -> None:
    raise MemoryError

OfflineEmbedder.embed_images = embed_images
main()
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    folder = tmp_path / "pictures"
    make_pictures(folder, 12)
    return folder


@pytest.fixture
def cloud(syncer: Syncer, replicate: FakeReplicate) -> Syncer:
    """The command ``syncer`` with a fake Replicate, and leases that outlast the test."""
    account = replicate_environment(replicate.url)
    return Syncer(syncer.environment | account | {"LEASE_SECONDS": "600", "PYTHONWARNINGS": "ignore"})


def count_leased(url: str) -> int:
    with psycopg.connect(url) as conn:
        return conn.execute("SELECT FROM b_queue WHERE lease IS NOT NULL AND state = 'pending'").rowcount


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize("command", ["sync", "embed"])
def test_a_run_interrupted_while_the_model_hangs_releases_its_leases(
    cloud: Syncer, replicate: FakeReplicate, folder: Path, database_url: str, command: str, number: signal.Signals
) -> None:
    replicate.settings.faults = {"hang": 1.0}
    assert cloud("upload", folder, "--bucket", "b").status == 0
    process = cloud.start(command, *([folder] if command == "sync" else []), "--bucket", "b")
    wait_until(lambda: replicate.counts.creates >= 3 and count_leased(database_url) > 0)
    process.send_signal(number)
    _, stderr = process.communicate(timeout=20)
    assert (process.returncode, "interrupted" in stderr) == (130, True)
    assert count_leased(database_url) == 0
    replicate.settings.faults = {}
    done = cloud("embed", "--bucket", "b", "--json")
    assert (done.status, done.json["embedded"], done.json["pending"]) == (0, 12, 0), done.stderr


def test_a_run_waiting_for_the_database_can_be_interrupted(tmp_path: Path, syncer: Syncer) -> None:
    process = syncer.start("embed", "--bucket", "b", DATABASE_URL=f"postgresql://x@/x?host={tmp_path}")
    assert process.stderr is not None
    assert "waiting for PostgreSQL" in process.stderr.readline()
    process.terminate()
    process.communicate(timeout=20)
    assert process.returncode == 130


def test_a_model_outage_counts_against_no_image(cloud: Syncer, replicate: FakeReplicate, folder: Path) -> None:
    replicate.settings.faults = {"503": 1.0}
    process = cloud.start("sync", folder, "--bucket", "b", "--json")
    wait_until(lambda: replicate.counts.creates >= 12)
    replicate.settings.faults = {}
    stdout, stderr = process.communicate(timeout=100)
    assert process.returncode == 0, stderr
    result = json.loads(stdout)
    assert (result["embedded"], result["failed"], result["pending"]) == (12, 0, 0)


@pytest.mark.parametrize(("fault", "remedy"), [("401", "REPLICATE_API_TOKEN"), ("402", "billing")])
def test_a_refused_account_ends_the_run_and_counts_against_no_image(
    cloud: Syncer, replicate: FakeReplicate, folder: Path, database_url: str, fault: str, remedy: str
) -> None:
    replicate.settings.faults = {fault: 1.0}
    done = cloud("sync", folder, "--bucket", "b")
    assert done.status == 1
    assert remedy in done.stderr
    replicate.settings.faults = {}
    with psycopg.connect(database_url) as conn:
        rows = conn.execute("SELECT DISTINCT state, attempts, lease FROM b_queue").fetchall()
    assert rows in ([("pending", 0, None)], [])
    again = cloud("sync", folder, "--bucket", "b", "--json")
    assert (again.status, again.json["embedded"]) == (0, 12), again.stderr
    cost = cloud("status", "--json").json["buckets"][0]["cost_so_far"]
    assert cost == pytest.approx(replicate.counts.predictions * 0.000015)


def test_a_quarantined_image_is_listed_and_embedded_on_retry(syncer: Syncer, folder: Path, home: Path) -> None:
    assert syncer("upload", folder, "--bucket", "b").status == 0
    image = home / "buckets" / "b" / "set 1" / "picture-0001.jpg"
    hidden = image.rename(image.with_suffix(".hidden"))
    assert syncer("embed", "--bucket", "b", IMAGE_RETRY_SECONDS="0.1").status == 3
    (failure,) = syncer("failed", "--bucket", "b", "--json").json["failed"]
    assert (failure["key"], failure["reason"], failure["attempts"]) == (
        "set 1/picture-0001.jpg",
        "object_missing",
        3,
    )
    hidden.rename(image)
    assert syncer("retry", "--bucket", "b", "--json").json["retried"] == 1
    assert syncer("embed", "--bucket", "b").status == 0
    assert syncer("failed", "--bucket", "b", "--json").json["failed"] == []


def test_a_lack_of_memory_ends_the_run_and_counts_against_no_image(
    syncer: Syncer, folder: Path, database_url: str
) -> None:
    assert syncer("upload", folder, "--bucket", "b").status == 0
    done = Syncer(syncer.environment, (sys.executable, "-c", WITHOUT_MEMORY))("embed", "--bucket", "b")
    assert (done.status, "memory ran out" in done.stderr) == (1, True), done.stderr
    with psycopg.connect(database_url) as conn:
        rows = conn.execute("SELECT DISTINCT state, attempts, lease FROM b_queue").fetchall()
    assert rows == [("pending", 0, None)]
