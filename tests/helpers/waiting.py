"""Wait for a condition."""

import subprocess
import time
from collections.abc import Callable
from typing import Any


def wait_until(
    condition: Callable[[], bool], process: "subprocess.Popen[Any] | None" = None, timeout: float = 60
) -> None:
    """Return when *condition* holds; fail after *timeout* seconds, or if *process* ends first."""
    deadline = time.monotonic() + timeout
    while not condition():
        assert time.monotonic() < deadline, f"not within {timeout} s"
        assert process is None or process.poll() is None, process.communicate()[1]
        time.sleep(0.02)
