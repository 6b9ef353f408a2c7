"""The limit on the time that a process takes to end."""

import subprocess
import sys

HANGING_LOOP = """
import asyncio, threading
from shared.shutdown import end_within

async def hang():
    end_within(0.2, status=7)
    print("ready", flush=True)
    lock = threading.Lock()
    lock.acquire()
    lock.acquire()

asyncio.run(hang())
"""

OWN_HANDLER = """
import signal, time
from shared.shutdown import end_within

signal.signal(signal.SIGTERM, lambda *_: exit(5))
end_within(60, status=7)
print("ready", flush=True)
time.sleep(60)
"""


def status_after_sigterm(program: str) -> int:
    process = subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    process.terminate()
    process.communicate(timeout=30)
    return process.returncode


def test_a_process_whose_event_loop_hangs_ends_after_the_time() -> None:
    assert status_after_sigterm(HANGING_LOOP) == 7


def test_the_earlier_handler_of_the_signal_runs_too() -> None:
    assert status_after_sigterm(OWN_HANDLER) == 5
