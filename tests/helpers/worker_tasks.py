"""What the tests ask decoding workers to do. Workers import this module, so it imports little."""

import os
import signal
import sys
import time
from pathlib import Path

from shared.errors import ImageRefused, Reason


def pid() -> int:
    return os.getpid()


def doze(seconds: float) -> int:
    time.sleep(seconds)
    return os.getpid()


def begin(mark: Path) -> None:
    mark.write_text(str(os.getpid()))
    time.sleep(60)


def spin() -> None:
    while True:
        pass


def deaf() -> None:
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM, signal.SIGINT})
    spin()


def crash() -> None:
    os.kill(os.getpid(), signal.SIGSEGV)


def leave() -> None:
    os._exit(0)


def swallow(gigabytes: int) -> int:
    return len(bytearray(gigabytes << 30))


def chatter() -> str:
    os.write(1, b"this is not a reply")
    print("neither is this", flush=True)
    return "heard"


def echo(data: bytes) -> bytes:
    return data


def refuse() -> None:
    raise ImageRefused(Reason.CHANGED, "it changed", final=False)


def stumble() -> None:
    raise LookupError("nothing there")


def nameless() -> object:
    return lambda: None


def loaded() -> set[str]:
    return set(sys.modules)
