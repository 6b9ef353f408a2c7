"""Program of one decoder worker: ``python -m shared.images.worker MEMORY SECONDS TASK...``.

Arguments: address space in bytes, time limit per request, and the tasks that may run. The worker reads requests from
stdin and replies on stdout until stdin ends, which also happens when its parent dies.
"""

import os
import resource
import signal
import sys
import traceback
from collections.abc import Callable
from importlib import import_module
from typing import Any

from shared.errors import ImageRefused
from shared.images.worker_protocol import LENGTH_BYTES, frame, pack, unpack


def main() -> None:
    """Answer requests one after the other until stdin ends."""
    memory_limit, time_limit, tasks = int(sys.argv[1]), float(sys.argv[2]), frozenset(sys.argv[3:])
    requests, replies = os.fdopen(os.dup(0), "rb"), os.fdopen(os.dup(1), "wb")

    # Load the decoders before the first image arrives and before the memory limit applies.
    import shared.images  # noqa: F401

    # C libraries print to stdout and stderr: keep that out of the replies and off the terminal.
    null = os.open(os.devnull, os.O_RDWR)
    for stream in (0, 1, 2):
        os.dup2(null, stream)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    if sys.platform != "darwin":  # macOS refuses it
        resource.setrlimit(resource.RLIMIT_AS, (memory_limit, memory_limit))
    # The default action of the kernel's alarm ends the process even inside a decoder that never returns.
    signal.signal(signal.SIGALRM, signal.SIG_DFL)

    reply = b""  # the first reply is empty and means: ready
    while True:
        replies.write(frame(reply))
        replies.flush()
        length = requests.read(LENGTH_BYTES)
        if not length:
            return
        reply = _handle(requests.read(int.from_bytes(length)), tasks, time_limit)


def _handle(request: bytes, tasks: frozenset[str], time_limit: float) -> bytes:
    """Return the reply: ``{"result": …}`` or ``{"failure": [kind, reason, detail, final]}``."""
    try:
        name, args, kwargs = unpack(request)
        task = _load(name, tasks)
        signal.setitimer(signal.ITIMER_REAL, time_limit)
        try:
            result = task(*args, **kwargs)
        finally:
            signal.setitimer(signal.ITIMER_REAL, 0)
        return pack({"result": result})
    except ImageRefused as exc:
        return _failure("refused", exc.reason, exc.detail, final=exc.final)
    except MemoryError:
        return _failure("out of memory")
    except Exception as exc:
        return _failure("bug", f"{type(exc).__name__}: {exc}", traceback.format_exc())


def _load(name: str, tasks: frozenset[str]) -> Callable[..., Any]:
    if name not in tasks:
        raise PermissionError(f"{name} is not a decoder task")
    module, _, function = name.partition(":")
    task: Callable[..., Any] = getattr(import_module(module), function)
    return task


def _failure(kind: str, reason: str = "", detail: str = "", *, final: bool = True) -> bytes:
    return pack({"failure": [kind, reason, detail, final]})


if __name__ == "__main__":
    main()
