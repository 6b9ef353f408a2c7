"""Adding and deleting images while the server is killed or the bucket refuses: nothing stays half done."""

import re
import threading
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx2
import psycopg
import pytest

from tests.fakes.s3 import ACCESS_KEY_ID, SECRET_ACCESS_KEY, Fault, FaultyProxy, Request, S3Server
from tests.helpers.pictures import make_pictures
from tests.helpers.processes import Server, Syncer, make_environment, make_home, new_database, serving

pytestmark = pytest.mark.xdist_group("writes in the cloud")

BEARER = {"Authorization": "Bearer api-token-of-tests"}


@dataclass
class Cloud:
    """A bucket ``sent`` in S3 behind a proxy that injects faults, and pictures to upload."""

    environment: dict[str, str]
    proxy: FaultyProxy
    s3: S3Server
    folder: Path
    pictures: list[bytes]

    def serving(self) -> Any:
        return serving(self.environment, self.folder / "server.log")

    def objects(self) -> set[str]:
        return set(re.findall("<Key>(.*?)</Key>", httpx2.get(f"{self.s3.url}/sent?list-type=2").text))


@pytest.fixture(scope="module")
def cloud(
    postgres: str, template: str, shared_folder: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Cloud]:
    folder = tmp_path_factory.mktemp("writes")
    make_pictures(folder / "synced", 1)
    pictures = [path.read_bytes() for path in make_pictures(folder / "sent", 5, first=1)]
    with new_database(postgres, template) as database_url, S3Server() as s3, FaultyProxy(s3.url) as proxy:
        s3.make_bucket("sent")
        environment = make_environment(make_home(folder / "home", shared_folder), database_url) | {
            "S3_ENDPOINT_URL": proxy.url,
            "R2_ACCESS_KEY_ID": ACCESS_KEY_ID,
            "R2_SECRET_ACCESS_KEY": SECRET_ACCESS_KEY,
            "API_TOKEN": BEARER["Authorization"].removeprefix("Bearer "),
        }
        assert Syncer(environment)("upload", folder / "synced", "--bucket", "sent").status == 0
        yield Cloud(environment, proxy, s3, folder, pictures)


def add(server: Server, picture: bytes, key: str) -> httpx2.Response:
    return server.http.post("/api/images", params={"bucket": "sent", "key": key}, content=picture, headers=BEARER)


def delete(server: Server, image_id: int) -> httpx2.Response:
    return server.http.delete(f"/api/images/{image_id}?bucket=sent", headers=BEARER)


def kill_during(
    server: Server, proxy: FaultyProxy, kind: str, key: str, write: Callable[[], object], *, done: bool = False
) -> None:
    """Kill the server during *write*, at a request of this *kind* for *key*; with *done* the store has executed it."""
    reached = threading.Event()
    answers = iter([Fault("lost")] if done else [])

    def rule(request: Request) -> Fault | None:
        if (request.kind, request.key) != (kind, key):
            return None
        if fault := next(answers, None):
            return fault  # the server retries, and is killed then
        reached.set()
        return Fault("hang", seconds=1)

    def write_until_killed() -> None:
        with suppress(httpx2.TransportError):
            write()

    proxy.rule = rule
    writing = threading.Thread(target=write_until_killed)
    writing.start()
    assert reached.wait(60)
    server.process.kill()
    writing.join()
    proxy.rule = lambda request: None


def test_an_interrupted_write_is_completed_or_undone(cloud: Cloud) -> None:
    one, two, three, *_ = cloud.pictures
    before = cloud.objects()
    with cloud.serving() as server:
        kill_during(server, cloud.proxy, "put", "one.jpg", lambda: add(server, one, "one.jpg"), done=True)
    with cloud.serving() as server:
        assert server.keys("/api/images", bucket="sent") == ["set 0/picture-0000.jpg"]
        # A repeated upload finds the object of the first one.
        again = add(server, one, "one.jpg")
        assert again.status_code == 201
        assert len(cloud.objects() - before) == 3
        kill_during(server, cloud.proxy, "put", "two.jpg", lambda: add(server, two, "two.jpg"), done=True)
    assert "two.jpg" in cloud.objects()
    with psycopg.connect(cloud.environment["DATABASE_URL"]) as conn:  # as an hour later
        conn.execute("UPDATE sent_pending SET due_at = now()")
    with cloud.serving() as server:
        kill_during(server, cloud.proxy, "delete", "", lambda: delete(server, again.json()["id"]))
    with psycopg.connect(cloud.environment["DATABASE_URL"]) as conn:  # as two minutes later
        conn.execute("UPDATE sent_pending SET claimed_until = now()")
    with cloud.serving() as server:
        assert server.keys("/api/images", bucket="sent") == ["set 0/picture-0000.jpg"]
        # Neither request is repeated: the next write cleans up after both.
        assert add(server, three, "three.jpg").status_code == 201
        assert {key for key in cloud.objects() - before if not key.startswith(".")} == {"three.jpg"}
        assert len(cloud.objects() - before) == 3


def test_a_write_that_the_bucket_refuses_leaves_the_collection_consistent(cloud: Cloud) -> None:
    *_, one, two = cloud.pictures
    before = cloud.objects()
    refused = Fault("status", 403, "AccessDenied")
    with cloud.serving() as server:
        kept = server.keys("/api/images", bucket="sent")
        cloud.proxy.rule = lambda request: refused if request.key == "one.jpg" else None
        answer = add(server, one, "one.jpg")
        assert answer.status_code == 503
        assert answer.headers["retry-after"]
        assert server.keys("/api/images", bucket="sent") == kept
        cloud.proxy.rule = lambda request: None
        image = add(server, one, "one.jpg").json()
        assert image["key"] == "one.jpg"

        cloud.proxy.rule = lambda request: refused if request.kind == "delete" else None
        assert delete(server, image["id"]).status_code == 204
        assert server.keys("/api/images", bucket="sent") == kept
        assert "one.jpg" in cloud.objects()
        cloud.proxy.rule = lambda request: None
        assert add(server, two, "two.jpg").status_code == 201
        assert len(cloud.objects() - before) == 3
        assert "one.jpg" not in cloud.objects()
        check_presigned_urls(server)


def check_presigned_urls(server: Server) -> None:
    """They stay the same for an hour, so that browsers can cache images, and work without credentials."""
    first, second, third = (server.get("/api/images", bucket="sent")["images"][0] for _ in range(3))
    for name in ("url", "thumbnail_url", "preview_url"):
        # They may change once between the requests, at the full hour.
        assert first[name] == second[name] or second[name] == third[name]
        found = httpx2.get(third[name])
        assert (found.status_code, found.headers["content-type"][:6]) == (200, "image/")
        assert found.headers["cache-control"]
    assert server.http.get(f"/files/sent/{first['key']}").status_code == 404
