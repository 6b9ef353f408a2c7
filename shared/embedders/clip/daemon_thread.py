"""Blocking work that must not delay the end of the program."""

import asyncio
import threading
from collections.abc import Callable
from concurrent.futures import Future
from typing import ParamSpec

P = ParamSpec("P")


async def run_in_daemon_thread(function: Callable[P, None], /, *args: P.args, **kwargs: P.kwargs) -> None:
    """Run *function* in a thread that the interpreter does not wait for at exit: a download takes minutes."""
    future: Future[None] = Future()
    future.set_running_or_notify_cancel()

    def work() -> None:
        try:
            function(*args, **kwargs)
        except Exception as exc:
            future.set_exception(exc)
        else:
            future.set_result(None)

    threading.Thread(target=work, daemon=True, name="download").start()
    await asyncio.wrap_future(future)
