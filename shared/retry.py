"""Retry policies for transient errors."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import ParamSpec, TypeVar

from tenacity import AsyncRetrying, RetryCallState, retry_if_exception, stop_before_delay, wait_random_exponential

from shared.errors import ServiceError

P = ParamSpec("P")
T = TypeVar("T")


def is_transient(error: BaseException) -> bool:
    """Return whether the same call may succeed later."""
    return isinstance(error, ServiceError) and error.transient


@dataclass(frozen=True)
class RetryPolicy:
    """Exponential backoff with full jitter.

    A wait is drawn between 0 and *first_wait* seconds, then the upper bound doubles with each attempt up to *max_wait*.
    It is never shorter than the ``retry_after`` of the error. No wait starts that would end after *timeout* seconds;
    the last error is raised instead. *on_retry* is called with each error before its wait.
    """

    first_wait: float
    max_wait: float
    timeout: float
    is_transient: Callable[[BaseException], bool] = is_transient
    on_retry: Callable[[BaseException], None] | None = None

    async def run(self, work: Callable[P, Awaitable[T]], /, *args: P.args, **kwargs: P.kwargs) -> T:
        """Return ``work(*args, **kwargs)``, retried while it raises transient errors; raise the last one."""
        retrying = AsyncRetrying(
            retry=retry_if_exception(self.is_transient),
            wait=self._wait,
            stop=stop_before_delay(self.timeout),
            before_sleep=self._before_sleep,
            reraise=True,
        )
        return await retrying(work, *args, **kwargs)

    def _wait(self, state: RetryCallState) -> float:
        error = state.outcome.exception() if state.outcome else None
        retry_after = error.retry_after if isinstance(error, ServiceError) else None
        backoff = wait_random_exponential(multiplier=self.first_wait, max=self.max_wait)
        return max(backoff(state), retry_after or 0.0)

    def _before_sleep(self, state: RetryCallState) -> None:
        error = state.outcome.exception() if state.outcome else None
        if self.on_retry and error:
            self.on_retry(error)


DATABASE = RetryPolicy(first_wait=0.1, max_wait=5.0, timeout=10.0)
OBJECT_STORE = RetryPolicy(first_wait=0.5, max_wait=5.0, timeout=45.0)


def outage_policy(timeout: float, report: Callable[[str], None]) -> RetryPolicy:
    """Return the policy for a whole run, on top of the retries of the adapters; *report* gets a line per error."""
    return RetryPolicy(0.5, 30.0, timeout, on_retry=lambda error: report(f"waiting: {error}"))
