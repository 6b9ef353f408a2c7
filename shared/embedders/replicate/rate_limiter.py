"""Client-side rate limiter for limits that a service states only when it refuses a call."""

import asyncio
import math
from dataclasses import dataclass

from shared.errors import ModelError

_WINDOW = 60.0  # seconds over which Replicate counts calls, and the longest spacing
_MARGIN = 1.05  # spacing and pauses are longer by this factor, since evenly sent calls do not arrive evenly
_FIRST_HOLD = 7  # accepted calls for which a new spacing is kept; three more return to full speed
_HOLD_FACTOR = 3  # for a limit that proved to be still there, up to ...
_MAX_HOLD = 63


@dataclass(frozen=True)
class Permit:
    """Permission for one call: when it was sent, and how long after the previous call. Times in seconds."""

    sent_at: float
    gap: float


class RateLimiter:
    """Paces calls to a service. Times are in seconds on the clock of the event loop.

    Calls start unlimited. A refusal that says how long to wait stops all calls for that time and sets a spacing: that
    of the stated rate, else that of the calls which the service accepted. After ten accepted calls the spacing is
    dropped. If the limit is still there, the next spacing is kept three times as long, up to 66 calls: a permanent
    limit soon costs less than one refused call in twenty, a brief one slows down ten calls. Ten accepted calls at full
    speed, or a minute without calls, reset this. Refusals without a hint are left to the backoff of the refused call.
    """

    def __init__(self, *, max_wait: float) -> None:
        """Calls that would have to wait longer than *max_wait* raise a ModelError instead."""
        self._max_wait = max_wait
        self._queue = asyncio.Lock()  # asyncio's locks are fair: first come, first served
        self._sent_at = -math.inf
        self._not_before = -math.inf
        self._refused_at = -math.inf
        self._spacing = 0.0
        self._hold = _FIRST_HOLD
        self._accepted = 0  # calls since _counted_from: since the last refusal allowed them again
        self._counted_from = -math.inf

    async def acquire(self) -> Permit:
        """Wait until a call may be sent."""
        async with self._queue:
            # In a loop, since a refusal may arrive during the sleep and extend the wait.
            while (wait := max(self._not_before, self._sent_at + self._current_spacing()) - _now()) > 0:
                if wait > self._max_wait:
                    message = f"Replicate's rate limit allows the next call in {wait:.0f} s"
                    raise ModelError(message, transient=True, retry_after=wait)
                await asyncio.sleep(wait)
            permit = Permit(_now(), _now() - self._sent_at)
            if permit.gap > _WINDOW:
                self._reset()
            self._sent_at = permit.sent_at
            return permit

    def pause(self, seconds: float) -> None:
        """Send no call for *seconds*."""
        self._not_before = max(self._not_before, _now() + _MARGIN * seconds)

    def accepted(self) -> None:
        """Record that the service accepted a call."""
        self._accepted += 1
        if self._spacing and self._accepted >= self._hold + 3 + 10:
            self._reset()

    def refused(self, permit: Permit, *, retry_after: float, spacing: float | None) -> None:
        """Record a refusal that asks to wait for *retry_after*, and may state the *spacing* of its limit."""
        self.pause(retry_after)
        if permit.sent_at < self._refused_at:
            return  # sent before the spacing in force was set
        limit_persists = bool(self._spacing) and self._accepted >= self._hold
        self._spacing = min(_WINDOW, _MARGIN * spacing if spacing else self._estimate(permit, retry_after))
        self._hold = min(_MAX_HOLD, _HOLD_FACTOR * self._hold) if limit_persists else _FIRST_HOLD
        self._refused_at = _now()
        self._accepted, self._counted_from = 0, _now() + retry_after

    def _reset(self) -> None:
        self._spacing = 0.0
        self._hold = _FIRST_HOLD
        self._accepted, self._counted_from = 0, _now()

    def _current_spacing(self) -> float:
        """Return the spacing, reduced in steps after it was kept for long enough."""
        steps = self._accepted - self._hold
        if steps >= 3:
            return 0.0
        return self._spacing / float(4 ** max(0, steps))

    def _estimate(self, permit: Permit, retry_after: float) -> float:
        """Return the spacing that a limit without a stated rate seems to require."""
        if not self._accepted:
            return max(self._spacing, _MARGIN * retry_after)
        # A bucket with room for one token has the next one a spacing after the previous call.
        bucket = _MARGIN * (retry_after + permit.gap)
        # Any limit lets through, after the wait, one call more than since the last refusal.
        average = (permit.sent_at + retry_after - self._counted_from) / self._accepted
        if not self._spacing:
            return min(bucket, _MARGIN * average)
        if self._accepted < self._hold:  # the spacing is too short
            return max(self._spacing, average)
        # The spacing was right, unless the limit has been raised since.
        return bucket if bucket < self._spacing / 4 else self._spacing


def _now() -> float:
    return asyncio.get_running_loop().time()
