"""Bounds how many tokens one client can try."""

import time
from collections import OrderedDict
from collections.abc import Callable

from server.schemas.errors import Problem

TRIES = 20  # different wrong tokens
WINDOW = 60.0  # seconds
_CLIENTS = 10_000  # remembered at once


class LoginThrottle:
    """Counts the wrong tokens of each client, each once: a script that keeps sending an old one is not guessing."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._wrong: OrderedDict[str, tuple[float, set[bytes]]] = OrderedDict()

    def check(self, client: str) -> None:
        """Raise a 429 for a client that has guessed enough: the right token would be told no more than a wrong one."""
        began, wrong = self._wrong.get(client, (0.0, set()))
        left = began + WINDOW - self._clock()
        if wrong and left <= 0:
            del self._wrong[client]
        elif len(wrong) >= TRIES:
            raise Problem(
                429,
                f"{TRIES} wrong tokens came from here within a minute: wait until it is over",
                headers={"Retry-After": str(int(left) + 1)},
            )

    def remember(self, client: str, digest: bytes) -> None:
        """Count a wrong token, by its digest."""
        _, wrong = self._wrong.setdefault(client, (self._clock(), set()))
        wrong.add(digest)
        if len(self._wrong) > _CLIENTS:
            self._wrong.popitem(last=False)
