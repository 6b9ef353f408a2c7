"""Keeps calls inside a rate limit that is not known before the service complains."""

import asyncio
import random
import time
from collections import deque

from shared.errors import ModelError

_MARGIN = 1.05  # below the limit by this much, since calls sent evenly do not arrive evenly
_ENOUGH = 10  # calls that have to pass before a higher speed is believed in
_NEGLIGIBLE = 0.02  # seconds between calls that no limit asks for: full speed again


class Pacer:
    """Lets calls go one after the other, as far apart as the service seems to want. Times are in seconds.

    At first there is no distance. A refusal stops all calls for as long as it says, and from then on they keep the
    distance that follows from it. Then the speed is doubled again and again while nothing is refused, the first time
    after *window* seconds, and after each further refusal later: so a limit that stays costs few refused calls, and
    one that goes is forgotten within minutes.
    """

    def __init__(self, *, window: float, longest_pause: float) -> None:
        """*window* is over how long the service counts; a pause beyond *longest_pause* is raised as a ModelError."""
        self._window = window
        self._longest_pause = longest_pause
        self._queue = asyncio.Lock()  # which is fair: first come, first served
        self._next = 0.0  # when the next call may go
        self._distance = 0.0
        self._recent: deque[float] = deque()  # when calls passed, over the last window
        self._passed = 0  # calls since the distance last changed
        self._refused_at = 0.0
        self._hold = window / 2  # how long after a refusal a higher speed is tried; doubled by each one

    async def turn(self) -> float:
        """Wait until a call may go, and return the moment, to be given to ``refused``."""
        async with self._queue:
            # Again after each sleep, since a refusal may have moved the moment.
            while (pause := self._next - time.monotonic()) > 0:
                if pause > self._longest_pause:
                    message = f"Replicate's rate limit asks for a pause of {pause:.0f} s"
                    raise ModelError(message, transient=True, retry_after=pause)
                await asyncio.sleep(pause)
            now = time.monotonic()
            self._next = now + self._distance
            return now

    def passed(self) -> None:
        """Note that the service took a call."""
        now = time.monotonic()
        self._recent.append(now)
        self._forget(now)
        self._passed += 1
        if self._distance and self._passed >= _ENOUGH and now - self._refused_at >= self._hold:
            self._distance = self._distance / 2 if self._distance > _NEGLIGIBLE else 0.0
            self._passed = 0

    def pause(self, seconds: float) -> None:
        """Let no call go for so many seconds."""
        # Callers that were told the same moment should not all come back in it.
        self._next = max(self._next, time.monotonic() + seconds * random.uniform(1.0, 1.1))

    def refused(self, sent_at: float, *, pause: float, distance: float | None) -> None:
        """Note that the call sent at *sent_at* was over the limit.

        *pause* is how long the service wants to be left alone, *distance* what it wants between calls, if it said so.
        """
        self.pause(pause)
        if sent_at < self._refused_at:
            return  # it went at the former speed, and says nothing about the one that has been set since
        now = self._refused_at = time.monotonic()
        self._forget(now)
        # A token bucket has its next token within one distance, so the pause is no longer than it; a window that is
        # used up may want a longer pause, but then it has let through as many calls as it lets through.
        distance = distance or min(pause, self._window / max(1, len(self._recent)))
        self._distance = max(1.5 * self._distance, _MARGIN * distance)
        self._passed = 0
        self._hold = min(2 * self._hold, 15 * self._window)

    def _forget(self, now: float) -> None:
        while self._recent and self._recent[0] < now - self._window:
            self._recent.popleft()
