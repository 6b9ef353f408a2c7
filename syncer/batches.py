"""Long lists in batches."""

from collections.abc import Iterator, Sequence
from typing import TypeVar

T = TypeVar("T")

BATCH_SIZE = 500  # rows of one statement


def batches(items: Sequence[T]) -> Iterator[Sequence[T]]:
    """Yield consecutive batches of up to BATCH_SIZE items."""
    for start in range(0, len(items), BATCH_SIZE):
        yield items[start : start + BATCH_SIZE]
