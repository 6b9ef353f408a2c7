"""Long lists in parts that one statement or one transaction takes."""

from collections.abc import Iterator, Sequence
from typing import TypeVar

T = TypeVar("T")

BATCH_SIZE = 500


def batches(items: Sequence[T]) -> Iterator[Sequence[T]]:
    """Yield *items* in consecutive parts of up to BATCH_SIZE."""
    for start in range(0, len(items), BATCH_SIZE):
        yield items[start : start + BATCH_SIZE]
