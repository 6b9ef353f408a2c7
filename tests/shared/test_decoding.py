import asyncio
import os
import pickle
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import numpy as np
import psutil
import pytest
import pytest_asyncio

from shared.errors import ImageRefused, Reason
from shared.images import examine, open_rgb
from shared.images.worker_pool import DecoderPool
from tests.helpers import corpus
from tests.helpers import worker_tasks as tasks


@pytest_asyncio.fixture
async def decoder() -> AsyncIterator[DecoderPool]:
    decoder = DecoderPool(2, time_limit=30)
    yield decoder
    await decoder.close()


def workers(parent: int | None = None) -> list[psutil.Process]:
    return [
        child
        for child in psutil.Process(parent).children()
        if child.status() != psutil.STATUS_ZOMBIE and "shared.images.worker" in child.cmdline()
    ]


async def until(gone: list[psutil.Process]) -> None:
    """Return when none of these processes is left."""
    while any(process.is_running() and process.status() != psutil.STATUS_ZOMBIE for process in gone):
        await asyncio.sleep(0.02)


async def test_a_decoder_that_is_never_used_starts_nothing() -> None:
    decoder = DecoderPool(2)
    assert workers() == []
    await decoder.close()


async def test_workers_are_started_as_they_are_needed_and_used_again(decoder: DecoderPool) -> None:
    first = await decoder.run(tasks.pid)
    assert [await decoder.run(tasks.pid) for _ in range(5)] == [first] * 5
    assert len(workers()) == 1


async def test_workers_can_be_started_before_they_are_needed(decoder: DecoderPool) -> None:
    decoder.start()
    first = await decoder.run(tasks.pid)
    assert first in {worker.pid for worker in workers()}
    used = await asyncio.gather(*(decoder.run(tasks.doze, 0.02) for _ in range(30)))
    assert {worker.pid for worker in workers()} == set(used)
    assert len(set(used)) == 2


async def test_closing_stops_workers_that_are_just_starting() -> None:
    decoder = DecoderPool(2)
    decoder.start()
    while not (starting := workers()):
        await asyncio.sleep(0)
    await decoder.close()
    assert workers() == []
    await until(starting)


async def test_many_at_once_share_the_workers(decoder: DecoderPool) -> None:
    used = await asyncio.gather(*(decoder.run(tasks.doze, 0.02) for _ in range(30)))
    assert len(set(used)) == 2
    assert len(workers()) == 2


async def test_images_go_to_workers_by_path_or_as_bytes(decoder: DecoderPool, tmp_path: Path) -> None:
    case = corpus.shown()[0]
    by_path = await decoder.run(examine, case.write(tmp_path))
    assert by_path == await decoder.run(examine, case.data)
    assert by_path == examine(case.data)
    assert np.array_equal(await decoder.run(open_rgb, case.data), open_rgb(case.data))


async def test_large_values_go_both_ways(decoder: DecoderPool) -> None:
    data = corpus.garbage(30_000_000)
    assert await decoder.run(tasks.echo, data) == data


async def test_a_refusal_comes_back_as_it_was_raised(decoder: DecoderPool) -> None:
    with pytest.raises(ImageRefused) as refused:
        await decoder.run(tasks.refuse)
    assert (refused.value.reason, refused.value.detail, refused.value.final) == (Reason.CHANGED, "it changed", False)


def test_a_refusal_survives_pickling() -> None:
    copy = pickle.loads(pickle.dumps(ImageRefused(Reason.EMPTY, "the file is empty", final=False)))
    assert (copy.reason, copy.detail, copy.final, str(copy)) == (Reason.EMPTY, "the file is empty", False, copy.detail)


async def test_a_mistake_comes_back_with_its_traceback(decoder: DecoderPool) -> None:
    with pytest.raises(LookupError, match="nothing there") as mistake:
        await decoder.run(tasks.stumble)
    assert "in stumble" in mistake.value.__notes__[0]
    with pytest.raises((AttributeError, pickle.PicklingError)):
        await decoder.run(tasks.nameless)
    assert await decoder.run(tasks.pid)


async def test_what_a_library_prints_does_not_get_between_the_replies(
    decoder: DecoderPool, capfd: pytest.CaptureFixture[str]
) -> None:
    assert await decoder.run(tasks.chatter) == "heard"
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize("endless", [tasks.spin, tasks.deaf])
async def test_an_endless_loop_costs_one_image(endless: Callable[[], None]) -> None:
    decoder = DecoderPool(1, time_limit=1)
    before = await decoder.run(tasks.pid)
    with pytest.raises(ImageRefused, match="longer than 1 s") as refused:
        await decoder.run(endless)
    assert (refused.value.reason, refused.value.final) == (Reason.DECODE_TIMEOUT, False)
    assert await decoder.run(tasks.pid) != before
    await decoder.close()


@pytest.mark.skipif(sys.platform == "darwin", reason="macOS cannot limit a process's memory")
async def test_memory_beyond_the_limit_costs_one_image() -> None:
    decoder = DecoderPool(1, memory_limit=512 << 20)
    before = await decoder.run(tasks.pid)
    # 196 million pixels, of one bit in a file of 24 kB, of four bytes when they are shown.
    for work in (decoder.run(tasks.swallow, 1), decoder.run(open_rgb, corpus.png_bomb(14_000, 14_000))):
        with pytest.raises(ImageRefused) as refused:
            await work
        assert refused.value.reason is Reason.DECODE_MEMORY
    assert await decoder.run(tasks.pid) == before
    await decoder.close()


@pytest.mark.parametrize("end", [tasks.crash, tasks.leave])
async def test_a_crash_costs_one_image(decoder: DecoderPool, end: Callable[[], None]) -> None:
    fates = await asyncio.gather(
        *(decoder.run(end) if n == 3 else decoder.run(tasks.pid) for n in range(8)), return_exceptions=True
    )
    assert isinstance(fates[3], ImageRefused)
    assert fates[3].reason is Reason.CORRUPT
    assert all(isinstance(fate, int) for n, fate in enumerate(fates) if n != 3)


async def test_a_worker_that_was_killed_while_idle_is_replaced(decoder: DecoderPool) -> None:
    before = await decoder.run(tasks.pid)
    os.kill(before, signal.SIGKILL)
    await until([psutil.Process(before)])
    await asyncio.sleep(0.05)
    assert await decoder.run(tasks.pid) != before


async def test_a_worker_that_the_system_kills_may_get_another_try(decoder: DecoderPool, tmp_path: Path) -> None:
    task = asyncio.create_task(decoder.run(tasks.begin, tmp_path / "mark"))
    os.kill(await _begun(tmp_path / "mark"), signal.SIGKILL)
    with pytest.raises(ImageRefused) as refused:
        await task
    assert (refused.value.reason, refused.value.final) == (Reason.DECODE_MEMORY, False)


async def test_cancelling_ends_the_work(decoder: DecoderPool, tmp_path: Path) -> None:
    task = asyncio.create_task(decoder.run(tasks.begin, tmp_path / "mark"))
    worker = psutil.Process(await _begun(tmp_path / "mark"))
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert not worker.is_running() or worker.status() == psutil.STATUS_ZOMBIE
    assert await decoder.run(tasks.pid) != worker.pid


async def test_closing_stops_all_work_at_once(tmp_path: Path) -> None:
    decoder = DecoderPool(1)
    busy = asyncio.create_task(decoder.run(tasks.begin, tmp_path / "mark"))
    waiting = asyncio.create_task(decoder.run(tasks.pid))
    await _begun(tmp_path / "mark")
    await decoder.close()
    assert workers() == []
    for task in (busy, waiting):
        with pytest.raises(RuntimeError, match="closed"):
            await task
    with pytest.raises(RuntimeError, match="closed"):
        await decoder.run(tasks.pid)


async def _begun(mark: Path) -> int:
    while not (mark.exists() and mark.read_text()):
        await asyncio.sleep(0.01)
    return int(mark.read_text())


async def test_workers_load_no_model_and_not_the_program_again(decoder: DecoderPool) -> None:
    modules = await decoder.run(tasks.loaded)
    assert "shared.images" in modules
    assert not {"onnxruntime", "asyncio.subprocess", "boto3", "psycopg", "rawpy", "pyvips"} & modules


PROGRAM = """
import asyncio, sys
from pathlib import Path
from shared.images.worker_pool import DecoderPool
from tests.helpers.worker_tasks import begin, pid
print("program", flush=True)

async def main():
    decoder = DecoderPool(2, time_limit=3)
    await asyncio.gather(decoder.run(pid), decoder.run(pid))
    work = asyncio.create_task(decoder.run(begin, Path(sys.argv[1])))
    print("ready", flush=True)
    try:
        await work
    finally:
        await decoder.close()

asyncio.run(main())
"""


async def _program(tmp_path: Path) -> subprocess.Popen[str]:
    program = tmp_path / "program.py"
    program.write_text(PROGRAM)
    process = subprocess.Popen(
        [sys.executable, program, tmp_path / "mark"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=os.environ | {"PYTHONPATH": os.getcwd()},
        start_new_session=True,
    )
    await _begun(tmp_path / "mark")
    return process


async def test_workers_end_when_their_program_is_killed(tmp_path: Path) -> None:
    program = await _program(tmp_path)
    children = workers(program.pid)
    assert len(children) == 2
    program.kill()
    output, errors = program.communicate()
    await until(children)
    # One program, not one in each worker; and nobody complains.
    assert (output, errors) == ("program\nready\n", "")


async def test_ctrl_c_gives_no_traceback_but_the_program_s_own(tmp_path: Path) -> None:
    program = await _program(tmp_path)
    children = workers(program.pid)
    os.killpg(program.pid, signal.SIGINT)  # as a terminal does
    _, errors = program.communicate()
    await until(children)
    assert errors.count("Traceback (most recent call last)") <= 2  # the cancelled task, and asyncio.run's
    assert "shared.images.worker" not in errors
    assert errors.rstrip().endswith("KeyboardInterrupt")
