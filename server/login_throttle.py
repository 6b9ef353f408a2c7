"""Limit for the number of tokens that one client can try."""

import time
from collections import OrderedDict
from collections.abc import Callable

from server.problem import Problem

MAX_WRONG_TOKENS = 20  # different ones per window
WINDOW = 60.0  # seconds
_MAX_CLIENTS = 10_000  # kept in memory


class LoginThrottle:
    """Count the different wrong tokens of each client. A script that repeats an outdated token is not guessing."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._wrong_tokens: OrderedDict[str, tuple[float, set[bytes]]] = OrderedDict()

    def check(self, client: str) -> None:
        """Raise a 429 after too many wrong tokens. The right token is blocked too, else guessing could continue."""
        started, wrong = self._wrong_tokens.get(client, (0.0, set()))
        remaining = started + WINDOW - self._clock()
        if wrong and remaining <= 0:
            del self._wrong_tokens[client]
        elif len(wrong) >= MAX_WRONG_TOKENS:
            seconds = int(remaining) + 1
            raise Problem(
                429,
                f"{MAX_WRONG_TOKENS} wrong tokens within a minute: try again in {seconds} s",
                headers={"Retry-After": str(seconds)},
            )

    def record(self, client: str, digest: bytes) -> None:
        """Count a wrong token, given by its digest."""
        _, wrong = self._wrong_tokens.setdefault(client, (self._clock(), set()))
        wrong.add(digest)
        if len(self._wrong_tokens) > _MAX_CLIENTS:
            self._wrong_tokens.popitem(last=False)
