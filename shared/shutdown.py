"""A limit on the time that a process takes to end."""

import os
import signal
from types import FrameType


def end_within(seconds: float, *, status: int) -> None:
    """Let SIGINT and SIGTERM, besides what they do already, end this process with *status* after *seconds*.

    A thread that reads from a hanging network drive cannot be stopped, and the event loop itself hangs where a thread
    could not start for lack of memory. Call it in the main thread.
    """
    for number in (signal.SIGINT, signal.SIGTERM):
        _add_timer(number, seconds, status)


def _add_timer(number: signal.Signals, seconds: float, status: int) -> None:
    handler = signal.getsignal(number)

    def start_timer(received: int, frame: FrameType | None) -> None:
        signal.signal(signal.SIGALRM, lambda *_: os._exit(status))
        signal.setitimer(signal.ITIMER_REAL, seconds)
        if callable(handler):
            handler(received, frame)

    signal.signal(number, start_timer)
