"""Timings of one unit of work by category, such as a request's time in the database and in the model."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

_current: ContextVar[dict[str, float] | None] = ContextVar("timings", default=None)


@contextmanager
def collect() -> Iterator[dict[str, float]]:
    """Yield the seconds per category spent inside the block. Times of concurrent tasks add up."""
    timings: dict[str, float] = {}
    token = _current.set(timings)
    try:
        yield timings
    finally:
        _current.reset(token)


@contextmanager
def timed(category: str) -> Iterator[None]:
    """Add the block's duration to *category*, if timings are being collected."""
    timings = _current.get()
    started = time.perf_counter()
    try:
        yield
    finally:
        if timings is not None:
            timings[category] = timings.get(category, 0.0) + time.perf_counter() - started
