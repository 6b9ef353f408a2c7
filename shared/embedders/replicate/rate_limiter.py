"""Keeps calls inside a rate limit that is not known before the service complains."""

import asyncio
import random
import time
from collections import deque

from shared.errors import ModelError

_MARGIN = 1.05  # slower than the limit by this much, since calls sent evenly do not arrive evenly
_BACKOFF = 1.25  # slower by this much after a refusal that says nothing new
_SPEED_UP = 0.001  # faster by this much with each call that passes, times how many have passed since the last refusal


class Pacer:
    """Lets calls go one after the other, as far apart as the service seems to want. Times are in seconds.

    At first there is no distance between calls. A refusal stops all of them for as long as it says, and sets a distance
    for those that follow. Each call that passes shortens it, by more the longer nothing is refused: a limit that stays
    costs about one refused call in twenty, and one that goes is forgotten after a hundred calls.
    """

    def __init__(self, *, window: float, longest_pause: float) -> None:
        """*window* is over how long the service counts; a pause beyond *longest_pause* is raised as a ModelError."""
        self._window = window
        self._longest_pause = longest_pause
        self._queue = asyncio.Lock()  # which is fair: first come, first served
        self._next = 0.0  # when the next call may go
        self._distance = 0.0
        self._longest_told = 0.0  # the longest pause that a refusal asked for, since the distance was 0
        self._refused_at = 0.0
        self._passed = 0  # calls since the last refusal
        self._recent: deque[float] = deque()  # when calls passed, over the last window

    async def turn(self) -> float:
        """Wait until a call may go, and return the moment, which ``refused`` wants to know."""
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

    def pause(self, seconds: float) -> None:
        """Let no call go for so long."""
        # A little longer, since what is said is rounded.
        self._next = max(self._next, time.monotonic() + seconds * random.uniform(1.0, 1.1))

    def passed(self) -> None:
        """Note that the service took a call."""
        self._recent.append(time.monotonic())
        self._forget()
        self._passed += 1
        self._distance *= 1 - min(0.5, _SPEED_UP * self._passed)
        if self._distance < self._window / 3000:  # which no limit asks for
            self._distance = self._longest_told = 0.0

    def refused(self, sent_at: float, *, pause: float, distance: float | None) -> None:
        """Note that the call that went at *sent_at* was over the limit.

        *pause* is how long the service wants to be left alone, *distance* what it wants between calls, if it said so.
        """
        self.pause(pause)
        if sent_at < self._refused_at:
            return  # it went at the former speed, and says nothing about the one that has been set since
        if distance is not None:
            self._distance = max(self._distance, _MARGIN * distance)
        else:
            self._distance = self._guess(pause)
        self._refused_at = time.monotonic()
        self._passed = 0

    def _guess(self, pause: float) -> float:
        """Return the distance that follows from a refusal."""
        self._forget()
        self._longest_told = max(self._longest_told, pause)
        # A bucket of tokens has the next one within one distance, so that a pause is no longer than it. A window that
        # is used up may ask for a long pause, but then it let through as many calls as it lets through.
        guess = max(_BACKOFF * self._distance, _MARGIN * min(pause, self._window / max(1, len(self._recent))))
        # And its distance is not much longer than the longest pause: so refusals that come at random do not add up.
        # Unless a call is refused although all waited: then what was said was too little.
        return min(guess, 1.5 * self._longest_told) if self._passed else guess

    def _forget(self) -> None:
        while self._recent and self._recent[0] < time.monotonic() - self._window:
            self._recent.popleft()
