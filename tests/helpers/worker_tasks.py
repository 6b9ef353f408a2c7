"""Decoder tasks for tests. Workers import this module, so it imports little itself."""

import os
import signal
import sys
import time
from pathlib import Path
from typing import NoReturn

from shared.errors import ImageRefused, Reason
from shared.images.worker_protocol import TASKS


def pid() -> int:
    return os.getpid()


def sleep(seconds: float) -> int:
    time.sleep(seconds)
    return os.getpid()


def block(pid_file: Path) -> None:
    pid_file.write_text(str(os.getpid()))
    time.sleep(60)


def spin() -> NoReturn:
    while True:
        pass


def ignore_signals() -> NoReturn:
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM, signal.SIGINT})
    spin()


def crash() -> None:
    os.kill(os.getpid(), signal.SIGSEGV)


def exit_silently() -> None:
    os._exit(0)


def allocate(gigabytes: int) -> int:
    return len(bytearray(gigabytes << 30))


def print_to_stdout() -> str:
    os.write(1, b"this is not a reply")
    print("neither is this", flush=True)
    return "printed"


def echo(data: bytes) -> bytes:
    return data


def decode(data: bytes) -> int:
    from shared.images import open_rgb

    return open_rgb(data).width


def refuse() -> None:
    raise ImageRefused(Reason.CHANGED, "it changed", final=False)


def fail() -> None:
    raise LookupError("nothing there")


def return_function() -> object:
    return lambda: None


def forge(reply: bytes) -> int:
    """Write *reply* to the pool by hand, as a decoder could that a file has taken over."""
    for descriptor in range(3, 32):
        try:
            os.write(descriptor, reply)
        except OSError:
            continue
    time.sleep(60)
    return 0


def loaded_modules() -> list[str]:
    return sorted(sys.modules)


TEST_TASKS = TASKS | {f"{__name__}:{name}" for name, value in tuple(vars().items()) if callable(value)}
