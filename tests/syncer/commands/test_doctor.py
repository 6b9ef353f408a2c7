"""`syncer doctor` finds what is broken in a set-up, says it in its own words, and leaves nothing behind."""

import argparse
import json
import os
from pathlib import Path
from typing import Any
from uuid import uuid4

import psycopg
import pytest
from psycopg.conninfo import make_conninfo

from shared.errors import SettingsError
from syncer.commands import doctor
from tests.fakes.replicate import FakeReplicate, replicate_environment
from tests.fakes.s3 import Fault, FaultyProxy, Kind, S3Server, s3_environment, s3_store
from tests.helpers.ports import free_port
from tests.helpers.processes import CLEAN_ENVIRONMENT
from tests.helpers.stored_objects import list_keys

WITHOUT_TABLES = ("DROP SCHEMA public CASCADE", "CREATE SCHEMA public", "GRANT USAGE ON SCHEMA public TO PUBLIC")


class Setup:
    """A set-up that works: PostgreSQL, S3 and Replicate. Tests break one part of it."""

    def __init__(self, database_url: str, proxy: FaultyProxy, bucket: str, environment: dict[str, str]) -> None:
        self.database_url = database_url
        self.proxy = proxy
        self.bucket = bucket
        self.environment = environment

    def execute(self, *statements: str) -> None:
        with psycopg.connect(self.database_url, autocommit=True) as conn:
            for statement in statements:
                conn.execute(statement.encode())

    def connect_with(self, **parts: str) -> None:
        self.environment["DATABASE_URL"] = make_conninfo(self.database_url, **parts)

    def refuse(self, kind: Kind, code: str = "AccessDenied") -> None:
        """Let the store refuse requests of this kind, as it does for a key without the right."""
        self.proxy.rule = lambda request: Fault("status", 403, code) if request.kind == kind else None

    def use_folders(self) -> None:
        for name in s3_environment(""):
            del self.environment[name]


@pytest.fixture
def setup(database_url: str, s3: S3Server, proxy: FaultyProxy, replicate: FakeReplicate, tmp_path: Path) -> Setup:
    bucket = f"checked-{uuid4().hex[:8]}"
    s3.make_bucket(bucket)
    environment = s3_environment(proxy.url) | replicate_environment(replicate.url)
    environment |= {"DATABASE_URL": database_url, "IMAGE_BROWSER_HOME": str(tmp_path / "home"), "BUCKET": bucket}
    return Setup(database_url, proxy, bucket, environment)


@pytest.fixture
def examine(setup: Setup, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> Any:
    """Return a function that runs the command and returns its status and the results by name."""

    async def run() -> tuple[int, dict[str, Any]]:
        monkeypatch.chdir(tmp_path)
        for name in os.environ.keys() - CLEAN_ENVIRONMENT.keys():
            monkeypatch.delenv(name)
        for name, value in setup.environment.items():
            monkeypatch.setenv(name, value)
        status = await doctor.run(argparse.Namespace(json=True))
        return status, {check["name"]: check for check in json.loads(capsys.readouterr().out)["checks"]}

    return run


async def test_a_complete_setup_passes_and_nothing_is_left_behind(setup: Setup, s3: S3Server, examine: Any) -> None:
    status, checks = await examine()
    assert status == 0, checks
    assert list(checks) == [
        "home",
        "database",
        "rights",
        "tables",
        "weak matches",
        "store",
        "decoders",
        "model",
        "OCR",
        "host names",
    ]
    store = s3_store(s3.url, setup.bucket)
    assert await list_keys(store) == []
    await store.close()
    with psycopg.connect(setup.database_url) as conn:
        assert conn.execute("SELECT count(*) FROM collections").fetchone() == (0,)


async def test_folders_are_checked_without_creating_the_bucket(setup: Setup, tmp_path: Path, examine: Any) -> None:
    setup.use_folders()
    status, checks = await examine()
    assert status == 0, checks
    assert list((tmp_path / "home" / "buckets").iterdir()) == []


def no_role(setup: Setup) -> None:
    setup.connect_with(user="missing")


def no_database(setup: Setup) -> None:
    setup.connect_with(dbname="missing")


def refused_port(setup: Setup) -> None:
    setup.environment["DATABASE_URL"] = f"postgresql://user@127.0.0.1:{free_port()}/images"


def unknown_host(setup: Setup) -> None:
    setup.environment["DATABASE_URL"] = "postgresql://user@database.invalid/images"


def no_tables(setup: Setup) -> None:
    setup.execute(*WITHOUT_TABLES)


def older_schema(setup: Setup) -> None:
    setup.execute("DELETE FROM schema_migrations WHERE version = 3")


def newer_schema(setup: Setup) -> None:
    setup.execute("INSERT INTO schema_migrations VALUES (9999, '', now())")


def earlier_development_version(setup: Setup) -> None:
    setup.execute("UPDATE schema_migrations SET digest = 'other'")


def role_without_create(setup: Setup) -> None:
    role = f"reader_{uuid4().hex[:8]}"
    setup.execute(f"CREATE ROLE {role} LOGIN", f"GRANT SELECT, INSERT ON ALL TABLES IN SCHEMA public TO {role}")
    setup.connect_with(user=role)


def role_without_create_and_no_tables(setup: Setup) -> None:
    role = f"powerless_{uuid4().hex[:8]}"
    setup.execute(*WITHOUT_TABLES, f"CREATE ROLE {role} LOGIN")
    setup.connect_with(user=role)


def no_bucket(setup: Setup) -> None:
    setup.environment["BUCKET"] = "never-made"


def wrong_secret(setup: Setup) -> None:
    setup.refuse("list", "SignatureDoesNotMatch")


def key_may_not_put(setup: Setup) -> None:
    setup.refuse("put")


def key_may_not_get(setup: Setup) -> None:
    setup.refuse("get")


def key_may_not_copy(setup: Setup) -> None:
    setup.refuse("copy")


def key_may_not_delete(setup: Setup) -> None:
    setup.refuse("delete")


def store_refuses_connections(setup: Setup) -> None:
    setup.environment["S3_ENDPOINT_URL"] = f"http://127.0.0.1:{free_port()}"


def store_is_no_store(setup: Setup) -> None:
    setup.environment["S3_ENDPOINT_URL"] = setup.environment["REPLICATE_BASE_URL"]


def public_url_of_another_bucket(setup: Setup) -> None:
    setup.environment["PUBLIC_URL"] = f"{setup.proxy.url}/another"


def home_is_a_file(setup: Setup) -> None:
    setup.environment["EMBEDDER"] = "offline"
    Path(setup.environment["IMAGE_BROWSER_HOME"]).touch()


def buckets_are_a_file(setup: Setup) -> None:
    setup.use_folders()
    home = Path(setup.environment["IMAGE_BROWSER_HOME"])
    home.mkdir()
    (home / "buckets").touch()


def wrong_token(setup: Setup) -> None:
    setup.environment["REPLICATE_API_TOKEN"] = "r8_wrong"


def no_token(setup: Setup) -> None:
    setup.environment["EMBEDDER"] = "replicate"
    del setup.environment["REPLICATE_API_TOKEN"]


def no_model_folder(setup: Setup) -> None:
    setup.environment |= {"EMBEDDER": "clip", "CLIP_MODEL": "/nowhere/model"}


@pytest.mark.parametrize(
    ("broken", "check", "words"),
    [
        (no_role, "database", 'role "missing" does not exist'),
        (no_database, "database", 'database "missing" does not exist'),
        (refused_port, "database", "Connection refused"),
        (unknown_host, "database", "database.invalid"),
        (no_tables, "tables", "run `syncer migrate`"),
        (older_schema, "tables", "run `syncer migrate`"),
        (newer_schema, "rights", "upgrade Image Browser"),
        (earlier_development_version, "rights", "`syncer adopt --reclaim`"),
        (role_without_create, "rights", "docs/deploy.md"),
        (role_without_create_and_no_tables, "rights", "permission denied for schema public"),
        (no_bucket, "store", "has no bucket 'never-made'"),
        (wrong_secret, "store", "R2_SECRET_ACCESS_KEY"),
        (key_may_not_put, "store", "cannot put objects"),
        (key_may_not_get, "store", "cannot get objects"),
        (key_may_not_copy, "store", "cannot copy objects"),
        (key_may_not_delete, "store", "cannot delete objects"),
        (store_refuses_connections, "store", "S3_ENDPOINT_URL"),
        (store_is_no_store, "store", "does not speak S3"),
        (public_url_of_another_bucket, "store", "check PUBLIC_URL"),
        (home_is_a_file, "home", "set it to a folder that this user can write"),
        (buckets_are_a_file, "store", "IMAGE_BROWSER_HOME"),
        (wrong_token, "model", "REPLICATE_API_TOKEN"),
        (no_token, "model", "REPLICATE_API_TOKEN"),
        (no_model_folder, "model", "/nowhere/model"),
    ],
)
async def test_what_is_broken_is_named_with_its_remedy(
    setup: Setup, examine: Any, broken: Any, check: str, words: str
) -> None:
    broken(setup)
    status, checks = await examine()
    assert status == 1
    assert words in checks[check]["detail"]
    assert not checks[check]["ok"]
    assert "syncer doctor" not in str(checks)


async def test_a_wrong_password_is_named(setup: Setup, wrong_password: str, examine: Any) -> None:
    setup.environment["DATABASE_URL"] = wrong_password
    _, checks = await examine()
    assert "password authentication failed" in checks["database"]["detail"]


@pytest.mark.parametrize("name", ["PUBLIC_URL", "S3_ENDPOINT_URL", "REPLICATE_BASE_URL", "DATABASE_URL"])
async def test_a_setting_that_is_no_address_is_named(setup: Setup, examine: Any, name: str) -> None:
    setup.environment[name] = "images"
    with pytest.raises(SettingsError, match=f"^{name} is "):
        await examine()
