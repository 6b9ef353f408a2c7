"""Trying again, where what went wrong may pass."""

import time
from collections.abc import Awaitable, Callable
from typing import TypeVar

from tenacity import AsyncRetrying, RetryCallState, retry_if_exception, stop_before_delay

T = TypeVar("T")


async def persist(
    work: Callable[[], Awaitable[T]],
    *,
    patience: float,
    may_pass: Callable[[BaseException], bool],
    wait: Callable[[RetryCallState], float],
    tell: Callable[[BaseException], None] | None = None,
) -> T:
    """Return what *work* returns, tried again while it raises what *may_pass*, for up to *patience* seconds.

    Between two tries it waits for as long as *wait* says, and no wait is begun that would outlast patience; then, the
    last error comes through. *tell* is told of each that is waited out.
    """
    began = time.monotonic()
    try:
        # Nearly all work succeeds at once. A policy for it would take as long as a statement does.
        return await work()
    except Exception as exc:
        first: Exception | None = exc

    async def again() -> T:
        nonlocal first
        if first is not None:  # the policy's first try is the one that was
            error, first = first, None
            raise error
        return await work()

    def before_sleep(state: RetryCallState) -> None:
        error = state.outcome.exception() if state.outcome else None
        if tell and error:
            tell(error)

    policy = AsyncRetrying(
        retry=retry_if_exception(may_pass),
        wait=wait,
        stop=stop_before_delay(patience - (time.monotonic() - began)),
        before_sleep=before_sleep,
        reraise=True,
    )
    return await policy(again)
