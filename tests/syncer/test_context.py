"""Databases that commands cannot use, and what a failed first sync leaves."""

from pathlib import Path

import psycopg
import pytest

from tests.helpers.pictures import make_pictures
from tests.helpers.processes import Command, Syncer


def change(database_url: str, *statements: str) -> None:
    with psycopg.connect(database_url, autocommit=True) as conn:
        for statement in statements:
            conn.execute(statement.encode())


def tables(database_url: str) -> int:
    with psycopg.connect(database_url) as conn:
        [count] = conn.execute("SELECT count(*) FROM pg_tables WHERE schemaname = 'public'").fetchone() or [0]
    return int(count)


@pytest.mark.parametrize("command", ["status", "failed", "buckets"])
def test_commands_that_only_read_do_not_create_tables(syncer: Syncer, database_url: str, command: str) -> None:
    change(database_url, "DROP SCHEMA public CASCADE", "CREATE SCHEMA public")
    done = syncer(command, BUCKET="b")
    assert done.status == 1
    assert done.stderr == "syncer: the database has no tables yet: the first `syncer sync` creates them\n"
    assert tables(database_url) == 0


def test_a_report_of_an_older_database_asks_for_its_migration(syncer: Syncer, database_url: str) -> None:
    change(database_url, "DELETE FROM schema_migrations WHERE version = 3")
    assert "run `syncer migrate`" in syncer("status").stderr


def test_a_first_sync_that_cannot_use_the_store_leaves_no_collection(
    syncer: Syncer, home: Path, tmp_path: Path
) -> None:
    make_pictures(tmp_path / "some", 1)
    (home / "buckets").write_text("a file where the folder of the buckets belongs")
    failed = syncer("sync", tmp_path / "some", "--bucket", "b")
    assert failed.status == 1
    assert "IMAGE_BROWSER_HOME" in failed.stderr
    assert syncer("buckets", "--json").json == {"buckets": []}


def test_a_role_without_rights_is_told_to_get_them(syncer: Syncer, database_url: str) -> None:
    change(
        database_url,
        "DROP SCHEMA public CASCADE",
        "CREATE SCHEMA public",
        "GRANT USAGE ON SCHEMA public TO PUBLIC",
        "CREATE ROLE powerless LOGIN",
    )
    try:
        done = syncer("migrate", DATABASE_URL=database_url.replace("//image_browser@", "//powerless@"))
    finally:
        change(database_url, "DROP ROLE powerless")
    assert done.status == 1
    assert "permission denied for schema public" in done.stderr
    assert "docs/deploy.md" in done.stderr
    assert "Traceback" not in done.stderr


def test_a_command_that_only_reads_gives_up_within_its_patience(syncer: Syncer) -> None:
    nothing_listens = "postgresql://user@127.0.0.1:1/images"
    done = syncer("status", DATABASE_URL=nothing_listens, OUTAGE_PATIENCE_SECONDS="0.5")
    assert done.status == 1
    assert "Connection refused" in done.stderr


def test_new_collections_get_siglip2_and_existing_ones_keep_their_clip_model(syncer: Syncer, tmp_path: Path) -> None:
    make_pictures(tmp_path / "some", 1)

    def upload(bucket: str, **settings: str) -> Command:
        return syncer("upload", tmp_path / "some", "--bucket", bucket, EMBEDDER="clip", **settings)

    assert upload("old", CLIP_MODEL="ViT-L/14").status == 0
    assert upload("new").status == 0
    assert upload("old").status == 0
    models = {each["bucket"]: each["model"] for each in syncer("buckets", "--json").json["buckets"]}
    assert models == {"old": "clip:ViT-L/14", "new": "clip:ViT-B-16-SigLIP2"}
    assert "syncer reembed" in upload("old", CLIP_MODEL="ViT-B/32").stderr
