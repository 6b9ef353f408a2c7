import asyncio
import os
import socket
import sys
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from shared.images import examine
from shared.images.worker_pool import DecoderPool
from tests.helpers import corpus
from tests.helpers import worker_tasks as tasks
from tests.helpers.worker_tasks import TEST_TASKS

linux = pytest.mark.skipif(sys.platform != "linux", reason="the sandbox consists of features of Linux")


@pytest_asyncio.fixture
async def decoder(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[DecoderPool]:
    monkeypatch.setenv("R2_SECRET_ACCESS_KEY", "a secret")
    decoder = DecoderPool(1, tasks=TEST_TASKS)
    yield decoder
    await decoder.close()


async def check_that_it_is_refused(decoder: DecoderPool, task: Callable[..., Any], *args: object) -> None:
    with pytest.raises(RuntimeError, match="PermissionError|OSError"):
        await decoder.run(task, *args)


@linux
async def test_a_decoder_cannot_connect(decoder: DecoderPool) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        await check_that_it_is_refused(decoder, tasks.connect, listener.getsockname()[1])


@linux
async def test_a_decoder_cannot_read_files_and_folders(decoder: DecoderPool, tmp_path: Path) -> None:
    (tmp_path / ".env").write_text("R2_SECRET_ACCESS_KEY=secret")
    secrets = ["/etc/passwd", f"/proc/{os.getpid()}/environ", "/proc/self/environ", str(tmp_path / ".env")]
    for path in (*secrets, "pyproject.toml"):
        await check_that_it_is_refused(decoder, tasks.read_file, path)
    for path in ("/", str(Path.home()), str(tmp_path), "."):
        await check_that_it_is_refused(decoder, tasks.list_folder, path)


@linux
async def test_a_decoder_cannot_write(decoder: DecoderPool, tmp_path: Path) -> None:
    (tmp_path / "old").write_bytes(b"old")
    for path in (tmp_path / "new", tmp_path / "old", Path("/dev/shm/new")):
        await check_that_it_is_refused(decoder, tasks.write_file, str(path))
    await check_that_it_is_refused(decoder, tasks.overwrite_own_library)
    assert [path.read_bytes() for path in tmp_path.iterdir()] == [b"old"]


@linux
async def test_a_decoder_cannot_start_or_kill_a_process(decoder: DecoderPool) -> None:
    await check_that_it_is_refused(decoder, tasks.fork)
    await check_that_it_is_refused(decoder, tasks.execute)
    await check_that_it_is_refused(decoder, tasks.kill, os.getpid())


@linux
async def test_codecs_can_start_threads(decoder: DecoderPool) -> None:
    assert await decoder.run(tasks.start_thread)


async def test_a_decoder_inherits_no_secrets_and_no_descriptors(decoder: DecoderPool) -> None:
    names = await decoder.run(tasks.environment)
    assert "PYTHONPATH" in names
    assert not {"R2_SECRET_ACCESS_KEY", "HOME", "USER"} & set(names)
    assert await decoder.run(tasks.descriptors) == ["null", "null", "null", "socket"]


async def test_every_format_is_decoded_in_the_sandbox(decoder: DecoderPool, tmp_path: Path) -> None:
    for case in corpus.accepted():
        assert await decoder.run(examine, case.write(tmp_path)) == examine(case.data)


@linux
async def test_a_missing_restriction_is_logged_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    # Workers run this at their start: a processor whose system calls the filter does not know.
    (tmp_path / "sitecustomize.py").write_text("import platform; platform.machine = lambda: 'riscv64'")
    monkeypatch.syspath_prepend(tmp_path)
    decoder = DecoderPool(2, tasks=TEST_TASKS)
    await asyncio.gather(decoder.run(tasks.sleep, 0.02), decoder.run(tasks.sleep, 0.02))
    assert await decoder.sandbox_gaps() == caplog.messages
    assert "decoders may use the network: seccomp is unavailable" in caplog.messages[0]
    assert len(caplog.messages) == 1
    await decoder.close()


@linux
async def test_nothing_is_missing_on_this_system(decoder: DecoderPool, caplog: pytest.LogCaptureFixture) -> None:
    assert await decoder.sandbox_gaps() == caplog.messages == []
