"""`make check` refuses a migration that changed after it landed."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]


@pytest.fixture
def migrations(tmp_path: Path) -> Path:
    return Path(shutil.copytree(ROOT / "migrations", tmp_path / "migrations"))


def check(folder: Path) -> "subprocess.CompletedProcess[str]":
    command = [sys.executable, str(ROOT / "scripts" / "check_migrations.py"), str(folder)]
    return subprocess.run(command, capture_output=True, text=True)


def test_the_landed_migrations_are_unchanged(migrations: Path) -> None:
    done = check(migrations)
    assert (done.returncode, done.stderr) == (0, "")


def test_a_changed_or_deleted_migration_is_refused(migrations: Path) -> None:
    with (migrations / "collection" / "0001_tables.sql").open("a") as file:
        file.write("-- a comment\n")
    (migrations / "0002_search.sql").unlink()
    done = check(migrations)
    assert done.returncode == 1
    assert "migrations/collection/0001_tables.sql has changed since it landed" in done.stderr
    assert "migrations/0002_search.sql has changed since it landed" in done.stderr


def test_a_new_migration_must_be_listed(migrations: Path) -> None:
    (migrations / "9999_new.sql").write_text("SELECT 1;\n")
    listed = check(migrations).stderr.partition("`")[2].partition("`")[0]
    with (migrations / "hashes.txt").open("a") as file:
        file.write(f"{listed}\n")
    assert check(migrations).returncode == 0
