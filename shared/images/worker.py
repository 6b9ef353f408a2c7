"""The program of one decoding worker; ``shared.images.worker_pool`` starts it as ``python -m shared.images.worker``.

Arguments: bytes of memory, and seconds for one request. It reads requests from stdin and answers on stdout until
stdin ends, as it does when the program that started it dies, however it dies.
"""

import os
import pickle
import resource
import signal
import sys
import traceback
from typing import Any

from shared.errors import ImageRefused


def main() -> None:
    """Answer requests, one after the other, until there are no more."""
    memory_limit, time_limit = int(sys.argv[1]), float(sys.argv[2])
    requests, replies = os.fdopen(os.dup(0), "rb"), os.fdopen(os.dup(1), "wb")

    # The decoders' modules are loaded before the first image comes, and before there is a limit.
    import shared.images  # noqa: F401

    # What a C library prints about a file must neither get between the replies nor onto the terminal.
    nothing = os.open(os.devnull, os.O_RDWR)
    for stream in (0, 1, 2):
        os.dup2(nothing, stream)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    if sys.platform != "darwin":  # macOS refuses it
        resource.setrlimit(resource.RLIMIT_AS, (memory_limit, memory_limit))
    # The kernel's own alarm ends this process, even from inside a decoder that never returns.
    signal.signal(signal.SIGALRM, signal.SIG_DFL)

    reply = b""  # the first one says: ready
    while True:
        replies.write(len(reply).to_bytes(8) + reply)
        replies.flush()
        length = requests.read(8)
        if not length:
            return
        reply = _answer(requests.read(int.from_bytes(length)), time_limit)


def _answer(request: bytes, time_limit: float) -> bytes:
    """Return the pickle of (True, the function's result) or (False, the exception that it raised)."""
    try:
        function, args, kwargs = pickle.loads(request)
        signal.setitimer(signal.ITIMER_REAL, time_limit)
        try:
            result = function(*args, **kwargs)
        finally:
            signal.setitimer(signal.ITIMER_REAL, 0)
        return _pickle((True, result))
    except (ImageRefused, MemoryError) as exc:
        return _pickle((False, exc))
    except Exception as exc:
        # Somebody's mistake: the traceback itself cannot be sent.
        exc.add_note("in a decoding worker:\n" + traceback.format_exc())
        return _pickle((False, exc))


def _pickle(value: tuple[bool, Any]) -> bytes:
    return pickle.dumps(value, protocol=pickle.HIGHEST_PROTOCOL)


if __name__ == "__main__":
    main()
