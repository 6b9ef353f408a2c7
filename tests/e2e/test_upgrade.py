"""Upgrading: data made by the last recorded version, used by this one while the old server still runs."""

from pathlib import Path

from tests.helpers.pictures import make_pictures, picture
from tests.helpers.processes import Server, Syncer, serving
from tests.helpers.wheels import install_wheel

# Built with `uv build --wheel` when a version is tagged.
[RECORDED] = (Path(__file__).parents[1] / "golden" / "upgrade").glob("*.whl")
TOKEN = "api-token-of-tests"


def scores(server: Server) -> dict[str, float]:
    return {image["key"]: image["score"] for image in server.get("/api/search", bucket="b", q="noise")["images"]}


def test_the_data_of_the_recorded_version_are_used_by_this_one_while_both_run(
    environment: dict[str, str], tmp_path: Path
) -> None:
    old = install_wheel(RECORDED, tmp_path / "old")
    del environment["DATABASE_URL"]  # an embedded database, which the recorded version creates
    environment["API_TOKEN"] = TOKEN
    folder = tmp_path / "photos"
    make_pictures(folder, 3)
    made = Syncer(environment, command=[str(old / "syncer")])("sync", folder, "--bucket", "b", "--json")
    assert made.json["embedded"] == 3, made.stderr

    with serving(environment, tmp_path / "old.log", command=[str(old / "server")]) as old_server:
        before = scores(old_server)
        assert len(before) == 3
        syncer = Syncer(environment)
        migrated = syncer("migrate")
        assert migrated.status == 0, migrated.stderr
        make_pictures(folder, 1, first=3)
        done = syncer("sync", folder, "--bucket", "b", "--json")
        assert (done.json["uploaded"], done.json["unchanged"], done.json["embedded"]) == (1, 3, 4), done.stderr

        with serving(environment, tmp_path / "new.log") as server:
            assert before.items() <= scores(server).items()
            for number, writer in enumerate([old_server, server]):
                sent = writer.http.post(
                    "/api/images",
                    params={"bucket": "b", "key": f"sent {number}.jpg"},
                    content=picture(100 + number),
                    headers={"Authorization": f"Bearer {TOKEN}", "Content-Type": "image/jpeg"},
                )
                assert sent.status_code == 201, sent.text
            for reader in (old_server, server):
                assert len(reader.keys("/api/search", bucket="b", q="noise")) == 6
                assert reader.get("/api/stats", bucket="b")["embedded"] == 6
                assert reader.get("/readyz")["status"] == "ok"
    assert syncer("sync", folder, "--bucket", "b", "--json").json["unchanged"] == 4
