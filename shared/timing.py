"""What a piece of work spends its time on, for whoever wants to know: a server tells it with each answer."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

_spent: ContextVar[dict[str, float] | None] = ContextVar("spent", default=None)


@contextmanager
def collected() -> Iterator[dict[str, float]]:
    """The seconds that the block spends, by what they are spent on. Times of tasks that run at once add up."""
    spent: dict[str, float] = {}
    token = _spent.set(spent)
    try:
        yield spent
    finally:
        _spent.reset(token)


@contextmanager
def spent_on(name: str) -> Iterator[None]:
    """Count the block's time under *name*, where somebody collects."""
    spent = _spent.get()
    started = time.perf_counter()
    try:
        yield
    finally:
        if spent is not None:
            spent[name] = spent.get(name, 0.0) + time.perf_counter() - started
