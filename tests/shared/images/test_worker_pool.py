import asyncio
import os
import pickle
import signal
import socket
import subprocess
import sys
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import psutil
import pytest
import pytest_asyncio

from shared.errors import ImageRefused, Reason
from shared.images import examine
from shared.images.worker_pool import DecoderPool
from shared.images.worker_protocol import TASKS, frame, pack
from tests.helpers import corpus
from tests.helpers import worker_tasks as tasks
from tests.helpers.worker_tasks import TEST_TASKS


@pytest_asyncio.fixture
async def decoder() -> AsyncIterator[DecoderPool]:
    decoder = DecoderPool(2, time_limit=30, tasks=TEST_TASKS)
    yield decoder
    await decoder.close()


@pytest.fixture
def image(tmp_path: Path) -> Path:
    return corpus.accepted()[0].write(tmp_path)


def workers(parent: int | None = None) -> list[psutil.Process]:
    return [
        child
        for child in psutil.Process(parent).children()
        if child.status() != psutil.STATUS_ZOMBIE and "shared.images.worker" in child.cmdline()
    ]


async def wait_for_exit(processes: list[psutil.Process]) -> None:
    while any(process.is_running() and process.status() != psutil.STATUS_ZOMBIE for process in processes):
        await asyncio.sleep(0.02)


async def test_workers_start_on_demand_and_are_reused(decoder: DecoderPool) -> None:
    assert workers() == []
    first = await decoder.run(tasks.pid)
    assert [await decoder.run(tasks.pid) for _ in range(5)] == [first] * 5
    assert len(workers()) == 1
    used = await asyncio.gather(*(decoder.run(tasks.sleep, 0.02) for _ in range(30)))
    assert len(set(used)) == len(workers()) == 2


async def test_workers_can_start_ahead_of_the_first_image(decoder: DecoderPool) -> None:
    decoder.start()
    first = await decoder.run(tasks.pid)
    assert first in {worker.pid for worker in workers()}
    used = await asyncio.gather(*(decoder.run(tasks.sleep, 0.02) for _ in range(30)))
    assert {worker.pid for worker in workers()} == set(used)
    assert len(set(used)) == 2


async def test_modules_in_the_current_folder_are_not_imported(
    decoder: DecoderPool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("shared", "numpy", "json"):
        (tmp_path / f"{name}.py").write_text("raise SystemExit('planted')")
    monkeypatch.chdir(tmp_path)
    assert await decoder.run(tasks.pid) in {worker.pid for worker in workers()}


async def test_closing_stops_workers_that_are_still_starting() -> None:
    decoder = DecoderPool(2, tasks=TEST_TASKS)
    decoder.start()
    while not (starting := workers()):
        await asyncio.sleep(0)
    await decoder.close()
    assert workers() == []
    await wait_for_exit(starting)


async def test_a_path_and_its_bytes_give_the_same_result(decoder: DecoderPool, image: Path) -> None:
    by_path = await decoder.run(examine, image)
    assert by_path == await decoder.run(examine, image.read_bytes())
    assert by_path == examine(image)


async def test_a_file_that_cannot_be_opened_is_refused_and_may_be_retried(decoder: DecoderPool, tmp_path: Path) -> None:
    for path in (tmp_path / "missing.jpg", tmp_path):
        with pytest.raises(ImageRefused, match="cannot read the file") as refused:
            await decoder.run(examine, path)
        assert (refused.value.reason, refused.value.final) == (Reason.UNREADABLE, False)


async def test_a_named_pipe_does_not_block(decoder: DecoderPool, tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.jpg")
    with pytest.raises(ImageRefused):
        await decoder.run(examine, tmp_path / "pipe.jpg")


async def test_no_descriptor_stays_open(decoder: DecoderPool, image: Path) -> None:
    worker = await decoder.run(tasks.pid)
    processes = psutil.Process(), psutil.Process(worker)
    before = [process.num_fds() for process in processes]
    for _ in range(3):
        await decoder.run(examine, image)
    assert [process.num_fds() for process in processes] == before


async def test_large_values_travel_both_ways(decoder: DecoderPool) -> None:
    data = corpus.garbage(30_000_000)
    assert await decoder.run(tasks.echo, data) == data


async def test_a_refusal_keeps_its_reason_detail_and_finality(decoder: DecoderPool) -> None:
    with pytest.raises(ImageRefused) as refused:
        await decoder.run(tasks.refuse)
    assert (refused.value.reason, refused.value.detail, refused.value.final) == (Reason.CHANGED, "it changed", False)


async def test_a_bug_in_a_task_raises_with_the_traceback_of_the_worker(decoder: DecoderPool) -> None:
    with pytest.raises(RuntimeError, match="LookupError: nothing there") as bug:
        await decoder.run(tasks.fail)
    assert "in fail" in bug.value.__notes__[0]
    with pytest.raises(RuntimeError, match="a function cannot be sent"):
        await decoder.run(tasks.return_function)
    assert await decoder.run(tasks.pid)


async def test_only_tasks_on_the_allow_list_run(decoder: DecoderPool, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="posix:mkdir is not a decoder task"):
        await decoder.run(os.mkdir, str(tmp_path / "made"))
    ours, theirs = socket.socketpair()
    worker = subprocess.Popen([sys.executable, "-m", "shared.images.worker", str(1 << 30), "5", *TASKS], stdin=theirs)
    theirs.close()
    ours.sendall(frame(pack(["posix:mkdir", [str(tmp_path / "made")], {}])))
    ours.shutdown(socket.SHUT_WR)
    with ours.makefile("rb") as replies:
        reply = replies.read()
    ours.close()
    worker.wait()
    assert b"posix:mkdir is not a decoder task" in reply
    assert not list(tmp_path.iterdir())


class Malicious:
    """Creates a file when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return os.mkdir, (str(self.path),)


HOSTILE_REPLIES = {
    "no JSON": frame(b"{"),
    "an unknown message": pack({"run": ["os:system", "true"]}),
    "a value of another type": pack({"result": "many"}),
    "an unknown failure": pack({"failure": ["Exception", "", "", True]}),
    "an unknown reason": pack({"failure": ["refused", "bored", "", True]}),
    "not a number": frame(b'{"result": NaN}'),
    "deep nesting": frame(b"[" * 100_000),
    "an unknown dtype": frame(b'{"result": {"$array": ["O", [1], {"$bytes": [0, 8]}]}}') + bytes(8),
    "a file that was not sent": frame(b'{"result": {"$file": 0}}'),
    "a shape without its values": frame(b'{"result": {"$array": ["|u1", [9, 9], {"$bytes": [0, 8]}]}}'),
}


async def check_that_a_forged_reply_is_refused(decoder: DecoderPool, reply: bytes) -> None:
    worker = await decoder.run(tasks.pid)
    with pytest.raises(ImageRefused, match="the decoder sent an invalid reply") as refused:
        await decoder.run(tasks.forge, reply)
    assert refused.value.reason is Reason.CORRUPT
    assert not psutil.pid_exists(worker)
    assert await decoder.run(tasks.pid) != worker


@pytest.mark.parametrize("reply", HOSTILE_REPLIES.values(), ids=HOSTILE_REPLIES)
async def test_an_invalid_reply_refuses_the_image_and_ends_the_worker(decoder: DecoderPool, reply: bytes) -> None:
    await check_that_a_forged_reply_is_refused(decoder, frame(reply))


async def test_a_reply_that_would_execute_when_unpickled_executes_nothing(decoder: DecoderPool, tmp_path: Path) -> None:
    malicious = pickle.dumps({"result": Malicious(tmp_path / "made")})
    for reply in (malicious, frame(malicious), frame(b"") + malicious):
        await check_that_a_forged_reply_is_refused(decoder, frame(reply))
    assert not list(tmp_path.iterdir())
    pickle.loads(malicious)
    assert (tmp_path / "made").exists()


async def test_a_reply_that_claims_to_be_huge_is_not_read(decoder: DecoderPool) -> None:
    await check_that_a_forged_reply_is_refused(decoder, (1 << 50).to_bytes(8))


async def test_a_refusal_cannot_carry_control_characters(decoder: DecoderPool) -> None:
    reply = pack({"failure": ["refused", Reason.CORRUPT, "\x1b[2J\0" + "x" * 10_000, True]})
    with pytest.raises(ImageRefused) as refused:
        await decoder.run(tasks.forge, frame(reply))
    assert refused.value.detail.isprintable()
    assert len(refused.value.detail) == 500


async def test_output_of_c_libraries_is_discarded(decoder: DecoderPool, capfd: pytest.CaptureFixture[str]) -> None:
    assert await decoder.run(tasks.print_to_stdout) == "printed"
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize("endless", [tasks.spin, tasks.ignore_signals])
async def test_an_endless_loop_costs_one_image(endless: Callable[[], None]) -> None:
    decoder = DecoderPool(1, time_limit=1, tasks=TEST_TASKS)
    before = await decoder.run(tasks.pid)
    with pytest.raises(ImageRefused, match="longer than 1 s") as refused:
        await decoder.run(endless)
    assert (refused.value.reason, refused.value.final) == (Reason.DECODE_TIMEOUT, False)
    assert await decoder.run(tasks.pid) != before
    await decoder.close()


@pytest.mark.skipif(sys.platform == "darwin", reason="macOS cannot limit a process's memory")
async def test_memory_beyond_the_limit_costs_one_image() -> None:
    decoder = DecoderPool(1, memory_limit=512 << 20, tasks=TEST_TASKS)
    before = await decoder.run(tasks.pid)
    with pytest.raises(ImageRefused) as refused:
        await decoder.run(tasks.allocate, 1)
    assert refused.value.reason is Reason.DECODE_MEMORY
    # 196 million pixels, of one bit in a file of 24 kB, of four bytes when they are shown.
    with pytest.raises(ImageRefused, match="the limit is 536 MB") as refused:
        await decoder.run(tasks.decode, corpus.png_bomb(14_000, 14_000))
    assert (refused.value.reason, refused.value.final) == (Reason.TOO_LARGE, True)
    assert await decoder.run(tasks.pid) == before
    await decoder.close()


@pytest.mark.parametrize("end", [tasks.crash, tasks.exit_silently])
async def test_a_crash_costs_one_image(decoder: DecoderPool, end: Callable[[], None]) -> None:
    fates = await asyncio.gather(
        *(decoder.run(end) if n == 3 else decoder.run(tasks.pid) for n in range(8)), return_exceptions=True
    )
    assert isinstance(fates[3], ImageRefused)
    assert fates[3].reason is Reason.CORRUPT
    assert all(isinstance(fate, int) for n, fate in enumerate(fates) if n != 3)


async def test_a_worker_killed_while_idle_is_replaced(decoder: DecoderPool) -> None:
    before = await decoder.run(tasks.pid)
    os.kill(before, signal.SIGKILL)
    await wait_for_exit([psutil.Process(before)])
    await asyncio.sleep(0.05)
    assert await decoder.run(tasks.pid) != before


async def test_an_image_whose_worker_was_killed_may_be_retried(decoder: DecoderPool, image: Path) -> None:
    task = asyncio.create_task(decoder.run(tasks.block, image))
    (await reader(image)).kill()
    with pytest.raises(ImageRefused) as refused:
        await task
    assert (refused.value.reason, refused.value.final) == (Reason.DECODE_MEMORY, False)


async def test_cancelling_a_call_kills_its_worker(decoder: DecoderPool, image: Path) -> None:
    task = asyncio.create_task(decoder.run(tasks.block, image))
    worker = await reader(image)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert not worker.is_running() or worker.status() == psutil.STATUS_ZOMBIE
    assert await decoder.run(tasks.pid) != worker.pid


async def test_closing_stops_running_and_waiting_calls(image: Path) -> None:
    decoder = DecoderPool(1, tasks=TEST_TASKS)
    busy = asyncio.create_task(decoder.run(tasks.block, image))
    waiting = asyncio.create_task(decoder.run(tasks.pid))
    await reader(image)
    await decoder.close()
    assert workers() == []
    for task in (busy, waiting):
        with pytest.raises(RuntimeError, match="closed"):
            await task
    with pytest.raises(RuntimeError, match="closed"):
        await decoder.run(tasks.pid)


async def reader(file: Path, parent: int | None = None) -> psutil.Process:
    """Return the worker that has *file* open, once there is one."""
    while True:
        for worker in workers(parent):
            if any(opened.path == str(file) for opened in worker.open_files()):
                return worker
        await asyncio.sleep(0.01)


async def test_workers_load_neither_models_nor_the_main_program(decoder: DecoderPool) -> None:
    modules = await decoder.run(tasks.loaded_modules)
    assert "shared.images" in modules
    assert not {"onnxruntime", "asyncio.subprocess", "pydantic", "numpy", "boto3", "psycopg", "rawpy", "pyvips"} & set(
        modules
    )


PROGRAM = """
import asyncio, sys
from pathlib import Path
from shared.images.worker_pool import DecoderPool
from tests.helpers.worker_tasks import TEST_TASKS, block, pid
print("program", flush=True)

async def main():
    decoder = DecoderPool(2, time_limit=60, tasks=TEST_TASKS)
    await asyncio.gather(decoder.run(pid), decoder.run(pid))
    work = asyncio.create_task(decoder.run(block, Path(sys.argv[1])))
    print("ready", flush=True)
    try:
        await work
    finally:
        await decoder.close()

asyncio.run(main())
"""


async def start_program(image: Path) -> subprocess.Popen[str]:
    program = image.with_name("program.py")
    program.write_text(PROGRAM)
    process = subprocess.Popen(
        [sys.executable, program, image],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=os.environ | {"PYTHONPATH": os.getcwd()},
        start_new_session=True,
    )
    await reader(image, process.pid)
    return process


async def test_workers_exit_when_their_parent_is_killed(image: Path) -> None:
    program = await start_program(image)
    children = workers(program.pid)
    assert len(children) == 2
    program.kill()
    output, errors = program.communicate()
    await wait_for_exit(children)
    # The main program ran once, not again in each worker, and nothing was printed to stderr.
    assert (output, errors) == ("program\nready\n", "")


async def test_ctrl_c_prints_no_traceback_of_a_worker(image: Path) -> None:
    program = await start_program(image)
    children = workers(program.pid)
    os.killpg(program.pid, signal.SIGINT)  # as a terminal does
    _, errors = program.communicate()
    await wait_for_exit(children)
    assert errors.count("Traceback (most recent call last)") <= 2  # the cancelled task, and asyncio.run's
    assert "shared.images.worker" not in errors
    assert errors.rstrip().endswith("KeyboardInterrupt")
