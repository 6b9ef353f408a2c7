"""Client-side rate limiter for limits that a service states only when it refuses a call. Times are in seconds."""

import asyncio
import math
from collections.abc import Awaitable, Callable
from typing import ParamSpec, TypeVar

from shared.embedders.replicate.api_errors import RateLimited
from shared.errors import ModelError

P = ParamSpec("P")
T = TypeVar("T")

_MARGIN = 1.05  # factor on spacing and pauses, since evenly sent calls do not arrive evenly
_MAX_SPACING = 60.0  # Replicate counts calls per minute
_IDLE = 120.0  # time without calls after which a limit is forgotten


class RateLimiter:
    """Paces calls to a service.

    Calls start unlimited. A refusal that says how long to wait stops all calls for that time and then spaces them: by
    the stated rate, else by that of the calls which the service accepted. Ten accepted calls later they are unlimited
    again. If the limit is still there, the spacing stays for the next 60 calls: a permanent limit costs less than one
    refused call in twenty. Refusals without a hint are left to the backoff of the refused call.
    """

    def __init__(self, *, max_wait: float) -> None:
        """Calls that would have to wait longer than *max_wait* raise a ModelError instead."""
        self._max_wait = max_wait
        self._queue = asyncio.Lock()  # asyncio's locks are fair: first come, first served
        self._sent_at = self._not_before = self._refused_at = self._counted_from = -math.inf
        self._accepted = 0  # calls since _counted_from, the end of the last wait
        self._spacing = 0.0
        self._hold = 10  # accepted calls after which the spacing is dropped

    async def run(self, call: Callable[P, Awaitable[T]], /, *args: P.args, **kwargs: P.kwargs) -> T:
        """Return ``call(*args, **kwargs)`` as soon as the limit allows it."""
        async with self._queue:
            # In a loop, since a refusal may arrive during the sleep and extend the wait.
            while (wait := self._next_call_at() - _now()) > 0:
                if wait > self._max_wait:
                    message = f"Replicate's rate limit allows the next call in {wait:.0f} s"
                    raise ModelError(message, transient=True, retry_after=wait)
                await asyncio.sleep(wait)
            sent_at, gap = _now(), _now() - self._sent_at
            self._sent_at = sent_at
            if gap > _IDLE:
                gap = self._spacing = 0.0
                self._accepted, self._counted_from = 0, sent_at
        try:
            result = await call(*args, **kwargs)
        except ModelError as exc:
            if exc.retry_after is not None:
                self._not_before = max(self._not_before, _now() + _MARGIN * exc.retry_after)
                # A call sent before the last refusal says nothing about the present spacing.
                if isinstance(exc, RateLimited) and sent_at >= self._refused_at:
                    self._slow_down(exc.spacing, exc.retry_after, sent_at, gap)
            raise
        self._accepted += 1
        return result

    def _next_call_at(self) -> float:
        spacing = self._spacing if self._accepted < self._hold else 0.0
        return max(self._not_before, self._sent_at + spacing)

    def _slow_down(self, stated: float | None, retry_after: float, sent_at: float, gap: float) -> None:
        limit_persists = self._spacing and self._hold <= self._accepted < self._hold + 10
        spacing = gap + retry_after  # allowed by a bucket of one token
        if limit_persists and spacing > self._spacing / 4:
            spacing = self._spacing / _MARGIN
        elif self._accepted:
            # A window allows, after the wait, one call more than it accepted.
            spacing = min(spacing, (sent_at + retry_after - self._counted_from) / self._accepted)
        self._spacing = min(_MAX_SPACING, _MARGIN * (stated or spacing))
        self._hold = 60 if limit_persists else 10
        self._refused_at = _now()
        self._accepted, self._counted_from = 0, _now() + retry_after


def _now() -> float:
    return asyncio.get_running_loop().time()
