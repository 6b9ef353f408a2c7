"""Program of one decoder worker: ``python -m shared.images.worker MEMORY SECONDS TASK...``.

Arguments: memory for one image in bytes, time limit per request, and the tasks that may run. Stdin is a Unix socket on
which the worker receives requests, with the files to read as descriptors, and sends replies, until its other end is
closed, which also happens when its parent dies.
"""

import os
import resource
import signal
import socket
import sys
import traceback
from collections.abc import Callable
from contextlib import ExitStack
from importlib import import_module
from pathlib import Path
from typing import Any

from shared.errors import ImageRefused
from shared.images import decode_memory, sandbox
from shared.images.worker_protocol import LENGTH_BYTES, MAX_FILES, frame, pack, unpack

# Bytes for libraries that are loaded later, and for the bytes of a file that comes with its request.
_LIBRARIES = 128 << 20


def main() -> None:
    """Answer requests one after the other until stdin ends."""
    memory_limit, time_limit, tasks = int(sys.argv[1]), float(sys.argv[2]), frozenset(sys.argv[3:])
    connection = socket.socket(fileno=os.dup(0))
    requests = connection.makefile("rb")

    # C libraries print to stdout and stderr: keep that out of the replies and off the terminal.
    null = os.open(os.devnull, os.O_RDWR)
    for stream in (0, 1, 2):
        os.dup2(null, stream)
    os.close(null)
    _limit_memory(memory_limit)
    # The default action of the kernel's alarm ends the process even inside a decoder that never returns.
    signal.signal(signal.SIGALRM, signal.SIG_DFL)

    reply = pack(sandbox.enter(tasks))  # the first reply: ready, and what the sandbox lacks
    while True:
        connection.sendall(frame(reply))
        length, descriptors, _, _ = socket.recv_fds(connection, LENGTH_BYTES, MAX_FILES)
        if not length:
            return
        reply = _handle(requests.read(int.from_bytes(length)), descriptors, tasks, time_limit)


def _limit_memory(limit: int) -> None:
    """Refuse images that need more than *limit* bytes; where the estimate is wrong, let allocations fail."""
    decode_memory.set_limit(limit)
    if sys.platform == "linux":
        data_pages = int(Path("/proc/self/statm").read_text().split()[5])
        wall = data_pages * resource.getpagesize() + limit + limit // 4 + _LIBRARIES
        _, hard = resource.getrlimit(resource.RLIMIT_DATA)
        wall = wall if hard == resource.RLIM_INFINITY else min(wall, hard)
        resource.setrlimit(resource.RLIMIT_DATA, (wall, wall))


def _handle(request: bytes, descriptors: list[int], tasks: frozenset[str], time_limit: float) -> bytes:
    """Return the reply: ``{"result": …}`` or ``{"failure": [kind, reason, detail, final]}``."""
    try:
        with ExitStack() as stack:
            files = [stack.enter_context(os.fdopen(descriptor, "rb")) for descriptor in descriptors]
            name, args, kwargs = unpack(request, files)
            task = _load(name, tasks)
            signal.setitimer(signal.ITIMER_REAL, time_limit)
            result = task(*args, **kwargs)
        return pack({"result": result})
    except ImageRefused as exc:
        return _failure("refused", exc.reason, exc.detail, final=exc.final)
    except MemoryError:
        return _failure("out of memory")
    except Exception as exc:
        return _failure("bug", f"{type(exc).__name__}: {exc}", traceback.format_exc())
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)


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
