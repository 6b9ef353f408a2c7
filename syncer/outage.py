"""Waiting out a service that is away."""

import logging
from collections.abc import Awaitable, Callable
from typing import TypeVar

from tenacity import RetryCallState, wait_random_exponential

from shared.errors import ServiceError
from shared.patience import persist

log = logging.getLogger(__name__)

T = TypeVar("T")


_backoff = wait_random_exponential(multiplier=0.5, max=30)


def _pause(state: RetryCallState) -> float:
    """Wait as long as the service asked for, and longer and longer where it asked for nothing."""
    error = state.outcome.exception() if state.outcome else None
    asked = error.retry_after if isinstance(error, ServiceError) else None
    return max(_backoff(state), asked or 0.0)


class Outages:
    """Tries work again while a service is away, up to *patience* seconds, and says so to *waiting*."""

    def __init__(self, patience: float, waiting: Callable[[str], None]) -> None:
        self._patience = patience
        self._waiting = waiting

    async def outlast(self, work: Callable[[], Awaitable[T]]) -> T:
        """Return what *work* returns; raise its ServiceError when it is not transient or patience ends."""
        return await persist(
            work,
            patience=self._patience,
            may_pass=lambda error: isinstance(error, ServiceError) and error.transient,
            wait=_pause,
            tell=lambda error: self._waiting(f"waiting: {error}"),
        )
