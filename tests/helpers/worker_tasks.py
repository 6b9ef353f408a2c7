"""Decoder tasks for tests. Workers import this module, so it imports little itself."""

import os
import signal
import socket
import stat
import sys
import threading
import time
from contextlib import suppress
from pathlib import Path
from typing import NoReturn

from shared.errors import ImageRefused, Reason
from shared.images.worker_protocol import TASKS


def pid() -> int:
    return os.getpid()


def sleep(seconds: float) -> int:
    time.sleep(seconds)
    return os.getpid()


def block(file: Path) -> None:
    """Never return. Until this process ends, *file* is open in it."""
    time.sleep(60)


def spin() -> NoReturn:
    while True:
        pass


def ignore_signals() -> NoReturn:
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM, signal.SIGINT})
    spin()


def crash() -> None:
    signal.raise_signal(signal.SIGSEGV)


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


def decode(data: bytes | Path) -> int:
    from shared.images import open_rgb

    return open_rgb(data).width


def refuse() -> None:
    raise ImageRefused(Reason.CHANGED, "it changed", final=False)


def fail() -> None:
    raise LookupError("nothing there")


def return_function() -> object:
    return lambda: None


def connect(port: int) -> None:
    socket.create_connection(("127.0.0.1", port))


def read_file(path: str) -> bytes:
    return Path(path).read_bytes()


def list_folder(path: str) -> list[str]:
    return os.listdir(path)


def write_file(path: str) -> None:
    Path(path).write_bytes(b"written")


def overwrite_own_library() -> None:
    with open(__file__, "r+b"):
        pass


def fork() -> int:
    if child := os.fork():
        return child
    os._exit(0)


def execute() -> None:
    os.execv("/bin/true", ["true"])


def kill(process: int) -> None:
    os.kill(process, signal.SIGKILL)


def start_thread() -> int:
    thread = threading.Thread(target=lambda: None)
    thread.start()
    thread.join()
    return thread.native_id or 0


def environment() -> list[str]:
    return sorted(os.environ)


def descriptors() -> list[str]:
    """Return what the open descriptors are: "null", "socket", "file"."""
    kinds = {stat.S_IFCHR: "null", stat.S_IFSOCK: "socket"}
    found = []
    for descriptor in range(64):
        with suppress(OSError):
            found.append(kinds.get(stat.S_IFMT(os.fstat(descriptor).st_mode), "file"))
    return found


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
