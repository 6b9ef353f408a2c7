"""Every service and process fails repeatedly: in the end every image has its vector or the right reason for failure."""

import asyncio
import base64
import json
import os
import random
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

import httpx2
import numpy as np
import psycopg
import pytest
from PIL import Image

from shared.db import embedded
from shared.embedders.base import Vector, unit_vector
from shared.embedders.replicate.image_input import data_url
from shared.errors import Reason
from tests.fakes.replicate import (
    DIMENSIONS,
    FAULTS,
    NULLS_COLOUR,
    POLL_FAULTS,
    REFUSED_COLOUR,
    SHORT_COLOUR,
    ZEROS_COLOUR,
    Settings,
    replicate_environment,
    replicate_process,
    vector_of_pixels,
)
from tests.fakes.s3 import ACCESS_KEY_ID, SECRET_ACCESS_KEY, Fault, FaultyProxy, Request, S3Server, s3_store
from tests.helpers import corpus
from tests.helpers.pictures import encode, make_pictures
from tests.helpers.processes import make_environment
from tests.helpers.waiting import wait_until

BUCKET = "fire"
CONCURRENCY = 3
IN_FLIGHT = 2 * CONCURRENCY  # concurrent calls and unsaved vectors of one process
DEADLINE = 300.0  # seconds from the last disturbance to the end
ENDS_THE_RUN = ("401", "402", "404", "422")  # faults that need a changed setting
SHORT_TIMES = {"LEASE_SECONDS": "6", "IMAGE_RETRY_SECONDS": "0.2", "EMBED_CONCURRENCY": str(CONCURRENCY)}

REJECTED = {
    "text": (b"Dear diary,\nno photo today.\n", Reason.NOT_AN_IMAGE),
    "header": (corpus.jpeg_header(corpus.jpeg()), Reason.CORRUPT),
    "bomb": (corpus.png_bomb(), Reason.TOO_LARGE),
}
FAILS_IN_THE_MODEL = {
    "refused": (REFUSED_COLOUR, Reason.MODEL_REFUSED),
    "short": (SHORT_COLOUR, Reason.BAD_VECTOR),
    "nan": (NULLS_COLOUR, Reason.BAD_VECTOR),
    "zeros": (ZEROS_COLOUR, Reason.BAD_VECTOR),
}


class CrashingPostgres:
    """A PostgreSQL server that can be killed and restarted."""

    def __init__(self, home: Path) -> None:
        self._home = home
        self._uses = [self._start()]
        self.url = self._uses[0].url

    def _start(self) -> embedded.EmbeddedPostgres:
        # Without fsync, data survives a crash of the process, though not one of the machine.
        return asyncio.run(embedded.start(self._home, settings={"fsync": "off"}))

    def crash(self, number: int) -> None:
        os.kill(int((self._home / "postgresql/data/postmaster.pid").read_text().split()[0]), number)

    def recover(self) -> None:
        self._uses.append(self._start())

    def release(self) -> None:
        for use in self._uses:
            asyncio.run(use.release())


class Syncers:
    """Processes that are killed, and restarted whenever they give up."""

    def __init__(self, environment: dict[str, str], logs: Path) -> None:
        self._environment, self._logs = environment, logs
        self._running: list[tuple[tuple[str, ...], subprocess.Popen[bytes]]] = []
        self.interruptions = 0  # of processes that may have had calls in flight
        self.statuses: list[int] = []

    def start(self, *arguments: str) -> None:
        with (self._logs / f"{arguments[0]}.log").open("ab") as log:
            process = subprocess.Popen(
                [sys.executable, "-m", "tests.helpers.hasty_syncer", *arguments],
                env=self._environment,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        self._running.append((arguments, process))

    def kill(self, which: int) -> None:
        """Kill one with -9 and restart it."""
        arguments, process = self._running.pop(which)
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
            self.interruptions += 1
        process.wait()
        self.start(*arguments)

    def wait(self) -> None:
        """Return when all have finished their work."""
        deadline = time.monotonic() + DEADLINE
        while self._running:
            assert time.monotonic() < deadline, self.log()
            arguments, process = self._running.pop(0)
            try:
                status = process.wait(timeout=0.2)
            except subprocess.TimeoutExpired:
                self._running.append((arguments, process))
                continue
            if status == 1:
                self.interruptions += 1
                self.start(*arguments)
            else:
                self.statuses.append(status)

    def log(self) -> str:
        return "\n".join(path.read_text(errors="replace")[-10_000:] for path in sorted(self._logs.glob("*.log")))

    def end(self) -> None:
        for _, process in self._running:
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()


@pytest.fixture
def server(tmp_path: Path) -> Iterator[CrashingPostgres]:
    server = CrashingPostgres(tmp_path / "server")
    yield server
    server.release()


def make_bad(folder: Path, each: int) -> dict[str, Reason]:
    """Write *each* files of every kind that is rejected or fails in the model; return the reasons by key."""
    expected = {}
    for kind, (data, reason) in REJECTED.items():
        for number in range(each):
            expected[_write(folder, f"{kind}-{number}.jpg", data)] = reason
    for kind, (colour, reason) in FAILS_IN_THE_MODEL.items():
        for number in range(each):
            data = encode(Image.new("RGB", (40 + number, 40), colour), quality=95)
            expected[_write(folder, f"{kind}-{number}.jpg", data)] = reason
    return expected


def _write(folder: Path, name: str, data: bytes) -> str:
    path = folder / "bad" / name
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(data)
    return f"bad/{name}"


def expected_vectors_of_the_fake(folder: Path, keys: list[str]) -> dict[str, Vector]:
    def vector(path: Path) -> Vector:
        sent = base64.b64decode(data_url(path.read_bytes()).partition(",")[2])
        return unit_vector(vector_of_pixels(sent), dimensions=DIMENSIONS)

    return {key: vector(folder / key) for key in keys}


async def delete_object(url: str, key: str) -> None:
    store = s3_store(url, BUCKET)
    await store.delete([key])
    await store.close()


def has_collection(url: str) -> bool:
    with psycopg.connect(url) as conn:
        return conn.execute(f"SELECT to_regclass('{BUCKET}_queue') IS NOT NULL").fetchone() == (True,)


def assert_final_state(url: str, vectors: dict[str, Vector], failed: dict[str, Reason]) -> None:
    with psycopg.connect(url) as conn:

        def rows(query: str) -> list[Any]:
            return conn.execute(query.replace("fire_", f"{BUCKET}_").encode()).fetchall()

        reasons = rows(
            "SELECT r2_key, reason FROM fire_queue JOIN fire_images USING (id) WHERE state = 'failed'"
            " UNION ALL SELECT path, reason FROM fire_files WHERE reason IS NOT NULL"
        )
        pending = rows("SELECT r2_key FROM fire_queue JOIN fire_images USING (id) WHERE state = 'pending'")
        stored = rows("SELECT r2_key, embedding::text FROM fire_embeddings WHERE embedding IS NOT NULL")
        counts = rows("SELECT sum(images), sum(pending), sum(failed) FROM fire_counts")
        counted = rows(
            "SELECT (SELECT count(*) FROM fire_images), count(*) FILTER (WHERE state = 'pending'),"
            " count(*) FILTER (WHERE state = 'failed') FROM fire_queue"
        )
    assert pending == []
    # The last attempt gives the reason, and a random fault of the service may hit that attempt.
    of_the_model = {Reason.MODEL_REFUSED, Reason.BAD_VECTOR}
    assert {key: reason in of_the_model or reason for key, reason in reasons} == {
        key: reason in of_the_model or reason for key, reason in failed.items()
    }
    assert len(reasons) == len(failed)
    assert sorted(key for key, _ in stored) == sorted(vectors)
    for key, text in stored:
        # A halfvec has a mantissa of 11 bits.
        np.testing.assert_allclose(json.loads(text), vectors[key], rtol=2**-11, atol=1e-6, err_msg=key)
    assert counts == counted


@pytest.mark.timeout(600)  # on a busy machine
def test_every_image_gets_its_vector_or_reason_despite_failures_of_every_service(
    tmp_path: Path, server: CrashingPostgres
) -> None:
    rng = random.Random(4)
    folder, logs = tmp_path / "pictures", tmp_path / "logs"
    logs.mkdir()
    good = [path.relative_to(folder).as_posix() for path in make_pictures(folder, 460)]
    failed = make_bad(folder, 5)
    removed = [path.relative_to(folder).as_posix() for path in make_pictures(folder, 5, first=460)]
    failed |= dict.fromkeys(removed, Reason.OBJECT_MISSING)
    assert (len(good), len(failed)) == (460, 40)
    vectors = expected_vectors_of_the_fake(folder, good)

    each_once = sorted(FAULTS)
    rng.shuffle(each_once)
    drawn = sorted(FAULTS.difference(ENDS_THE_RUN))
    settings = Settings(
        seed=4,
        latency=0.2,
        unwaited=0.2,
        retry_after=0.1,
        script=[fault for name in each_once for fault in (name, "", "")],
        faults=dict.fromkeys(drawn, 0.2 / len(drawn)),
        poll_faults=dict.fromkeys(sorted(POLL_FAULTS), 0.02),
    )
    store_faults = [Fault("status", 503, "SlowDown"), Fault("reset"), Fault("lost"), Fault("half"), Fault("status")]

    with (
        S3Server() as s3,
        FaultyProxy(s3.url) as proxy,
        replicate_process("--settings", json.dumps(asdict(settings))) as replicate,
    ):
        s3.make_bucket(BUCKET)

        def rule(request: Request) -> Fault | None:
            if request.kind == "get" and request.key in removed:
                asyncio.run(delete_object(s3.url, request.key))
            return rng.choice(store_faults) if rng.random() < 0.03 else None

        proxy.rule = rule
        environment = make_environment(tmp_path / "home", server.url) | SHORT_TIMES
        environment |= replicate_environment(replicate)
        environment |= {"S3_ENDPOINT_URL": proxy.url, "AWS_ACCESS_KEY_ID": ACCESS_KEY_ID}
        environment |= {"AWS_SECRET_ACCESS_KEY": SECRET_ACCESS_KEY, "PYTHONWARNINGS": "ignore"}
        syncers = Syncers(environment, logs)
        try:
            syncers.start("sync", str(folder), "--bucket", BUCKET)
            wait_until(lambda: has_collection(server.url))
            syncers.start("embed", "--bucket", BUCKET)
            syncers.start("embed", "--bucket", BUCKET)
            for disturbance in range(7):
                time.sleep(rng.uniform(1, 3))
                if disturbance % 2:
                    proxy.stop()
                else:
                    server.crash(rng.choice([signal.SIGQUIT, signal.SIGKILL]))
                time.sleep(rng.uniform(0, 1))
                syncers.kill(rng.randrange(3))
                time.sleep(rng.uniform(0, 1))
                if disturbance % 2:
                    proxy.start()
                else:
                    server.recover()
            syncers.wait()
        finally:
            syncers.end()
        counts = httpx2.get(f"{replicate}/_counts").json()

    print(syncers.log())
    print({name: counts[name] for name in ("creates", "predictions", "faults", "poll_faults", "statuses", "texts")})
    print(f"{syncers.interruptions} interruptions, statuses {syncers.statuses}, store {proxy.counts}")
    assert syncers.statuses == [3, 3, 3]
    assert_final_state(server.url, vectors, failed)
    faults = Counter(counts["faults"])
    assert set(faults) >= FAULTS
    assert counts["creates"] <= 500 + faults.total() + IN_FLIGHT * syncers.interruptions
