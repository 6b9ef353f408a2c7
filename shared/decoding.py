"""Runs functions on untrusted image bytes in worker processes that can be killed.

A decoder is a large program that reads what strangers made: it can crash, hang or eat all memory. It does so in a
process of its own, with a cap on memory and time, and costs one image, never the run.
"""

import asyncio
import multiprocessing
import os
import resource
from collections.abc import Callable
from concurrent.futures import TimeoutError as FutureTimeoutError
from typing import ParamSpec, TypeVar

from pebble import ProcessExpired, ProcessPool

from shared.errors import ImageRefused, Reason

P = ParamSpec("P")
T = TypeVar("T")

MEMORY_LIMIT = 2 << 30  # bytes of address space for one worker: a 100-megapixel picture needs about 0.6 GB
TIME_LIMIT = 60.0  # seconds for one image


def _limit_worker(memory_limit: int) -> None:
    resource.setrlimit(resource.RLIMIT_AS, (memory_limit, memory_limit))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


class Decoder:
    """A pool of decoding workers, started when first used."""

    def __init__(
        self, workers: int | None = None, *, time_limit: float = TIME_LIMIT, memory_limit: int = MEMORY_LIMIT
    ) -> None:
        self._time_limit = time_limit
        self._pool = ProcessPool(
            max_workers=workers or os.cpu_count() or 1,
            # Workers are replaced now and then, so that what a decoder leaks is bounded.
            max_tasks=1000,
            initializer=_limit_worker,
            initargs=(memory_limit,),
            # A fork of a process with threads (ONNX Runtime, boto3) may inherit a lock that nobody will release.
            context=multiprocessing.get_context("forkserver"),
        )

    async def run(self, function: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> T:
        """Return ``function(*args, **kwargs)``, computed in a worker; it must be importable, its values picklable.

        Raises what *function* raises, and ImageRefused when the worker ran out of time or memory, or died.
        """
        future = self._pool.schedule(function, args=args, kwargs=kwargs, timeout=self._time_limit)
        try:
            return await asyncio.wrap_future(future)  # type: ignore[no-any-return]
        except (FutureTimeoutError, TimeoutError) as exc:
            detail = f"decoding took longer than {self._time_limit:g} s"
            raise ImageRefused(Reason.DECODE_TIMEOUT, detail) from exc
        except MemoryError as exc:
            raise ImageRefused(Reason.DECODE_MEMORY, "decoding needs more memory than one image may use") from exc
        except ProcessExpired as exc:
            raise ImageRefused(Reason.CORRUPT, f"the decoder crashed on it (exit status {exc.exitcode})") from exc

    async def close(self) -> None:
        """Stop the workers, letting none of them finish."""
        self._pool.stop()
        await asyncio.to_thread(self._pool.join)
