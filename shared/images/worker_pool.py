"""Runs functions on untrusted image bytes in worker processes that can be killed.

A decoder is a large program that reads what strangers made: it can crash, hang or eat all memory. It does so in a
process of its own (``shared.images.worker``), with a cap on memory and time, and costs one image, never the run.

Each worker has two pipes to itself, and shares nothing with the others. A pool of ``multiprocessing`` or on top of it
(pebble, concurrent.futures) was not taken: there, workers share a queue and its lock, so that one killed from outside
can stop all; each imports the program's main module again, with all that it imports, ours in two seconds; and
they were seen to go on alone when the program was killed.
"""

import asyncio
import os
import pickle
import signal
import sys
from asyncio.subprocess import PIPE, Process
from collections.abc import Callable
from contextlib import suppress
from typing import ParamSpec, TypeVar, cast

from shared.errors import ImageRefused, Reason

P = ParamSpec("P")
T = TypeVar("T")

MEMORY_LIMIT = (
    3 << 30
)  # bytes of address space: a transparent picture of MAX_PIXELS needs 2.6 GB (macOS has no such limit)
TIME_LIMIT = 60.0  # seconds for one image
_TASKS = 1000  # after so many a worker is replaced, so that what a decoder leaks is bounded


class DecoderPool:
    """A pool of decoding workers, each started when it is first needed. Belongs to one event loop."""

    def __init__(
        self, workers: int | None = None, *, time_limit: float = TIME_LIMIT, memory_limit: int = MEMORY_LIMIT
    ) -> None:
        self._time_limit = time_limit
        self._memory_limit = memory_limit
        self._size = workers or os.cpu_count() or 1
        self._free = asyncio.Semaphore(self._size)
        self._workers: set[_Worker] = set()
        self._idle: list[_Worker] = []
        self._starting: list[asyncio.Task[None]] = []
        self._closed = False

    def start(self) -> None:
        """Start all workers at once, in the background, where it is known that they will be needed."""
        self._starting = [asyncio.create_task(self._start_one()) for _ in range(self._size)]

    async def run(self, function: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> T:
        """Return ``function(*args, **kwargs)``, computed in a worker; it must be importable, its values picklable.

        Give a file's path rather than its bytes where there is one: then they need not be copied. Raises what
        *function* raises, and ImageRefused when the worker ran out of time or memory, or died. When the awaiting task
        is cancelled, its worker is killed.
        """
        request = pickle.dumps((function, args, kwargs), protocol=pickle.HIGHEST_PROTOCOL)
        async with self._free:
            worker = await self._take()
            try:
                reply = await worker.ask(request)
            except _WorkerDied as death:
                self._workers.discard(worker)
                self._check_open()
                raise self._refusal(death.status) from death
            except BaseException:
                self._workers.discard(worker)
                await worker.stop()
                raise
            await self._give_back(worker)
        succeeded, value = pickle.loads(reply)
        if succeeded:
            return value  # type: ignore[no-any-return]
        if isinstance(value, MemoryError):
            raise ImageRefused(Reason.DECODE_MEMORY, "decoding needs more memory than one image may use") from value
        raise value

    async def close(self) -> None:
        """Kill the workers; what still waits for one raises RuntimeError."""
        self._closed = True
        for task in self._starting:
            task.cancel()
        await asyncio.gather(*self._starting, return_exceptions=True)
        self._idle.clear()
        await asyncio.gather(*(worker.stop() for worker in self._workers))
        self._workers.clear()

    async def _start_one(self) -> None:
        with suppress(RuntimeError):  # it did not start, which whoever needs it is told, or the decoder is closed
            async with self._free:
                self._idle.append(await self._take())

    async def _take(self) -> "_Worker":
        self._check_open()
        while self._idle:
            worker = self._idle.pop()
            if worker.alive:
                return worker
            self._workers.discard(worker)
        worker = await _Worker.start(memory_limit=self._memory_limit, time_limit=self._time_limit)
        if self._closed:
            await worker.stop()
        self._check_open()
        self._workers.add(worker)
        return worker

    async def _give_back(self, worker: "_Worker") -> None:
        if worker.asked < _TASKS and not self._closed:
            self._idle.append(worker)
        else:
            self._workers.discard(worker)
            await worker.stop()

    def _check_open(self) -> None:
        if self._closed:
            raise RuntimeError("the decoder is closed")

    def _refusal(self, status: int) -> ImageRefused:
        if status == -signal.SIGALRM:
            # Maybe the machine was busy with something else.
            detail = f"decoding took longer than {self._time_limit:g} s"
            return ImageRefused(Reason.DECODE_TIMEOUT, detail, final=False)
        if status == -signal.SIGKILL:
            detail = "the system ended the decoder, most likely because memory ran out"
            return ImageRefused(Reason.DECODE_MEMORY, detail, final=False)
        return ImageRefused(Reason.CORRUPT, f"the decoder crashed on it (exit status {status})")


class _WorkerDied(Exception):
    def __init__(self, status: int) -> None:
        super().__init__(f"a decoding worker ended with status {status}")
        self.status = status


class _Worker:
    """One process, which answers one request at a time: frames of eight bytes of length, and that many bytes."""

    def __init__(self, process: Process) -> None:
        self._process = process
        self._requests = cast(asyncio.StreamWriter, process.stdin)
        self._replies = cast(asyncio.StreamReader, process.stdout)
        self.asked = 0

    @classmethod
    async def start(cls, *, memory_limit: int, time_limit: float) -> "_Worker":
        """Start a process, and return when it is ready."""
        environment = os.environ | {
            # It finds what this process finds.
            "PYTHONPATH": os.pathsep.join(path or os.getcwd() for path in sys.path),
            # One image, one core: the workers are what runs in parallel. Threads also cost address space.
            "OMP_NUM_THREADS": "1",
            "OPENBLAS_NUM_THREADS": "1",
        }
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "shared.images.worker", str(memory_limit), str(time_limit)),
            stdin=PIPE,
            stdout=PIPE,
            # A reply is never held up in the pipe: asyncio would not see the end of a process with a reply half read.
            limit=sys.maxsize,
            env=environment,
            # Ctrl-C in a terminal is for the program, which then stops its workers.
            start_new_session=True,
        )
        worker = cls(process)
        try:
            await worker._reply()
        except _WorkerDied as death:
            raise RuntimeError(f"the decoding worker could not start (exit status {death.status})") from death
        except BaseException:
            await worker.stop()
            raise
        return worker

    @property
    def alive(self) -> bool:
        """False as soon as the process is known to have ended."""
        return self._process.returncode is None

    async def ask(self, request: bytes) -> bytes:
        """Return the reply; raises _WorkerDied."""
        self.asked += 1
        self._requests.writelines((len(request).to_bytes(8), request))
        with suppress(ConnectionError):  # a dead process is found out by reading
            await self._requests.drain()
        return await self._reply()

    async def _reply(self) -> bytes:
        try:
            length = int.from_bytes(await self._replies.readexactly(8))
            return await self._replies.readexactly(length)
        except (asyncio.IncompleteReadError, ConnectionError):
            raise _WorkerDied(await self._process.wait()) from None

    async def stop(self) -> None:
        """Kill the process, whatever it does, and wait for its end."""
        with suppress(ProcessLookupError):
            self._process.kill()
        self._requests.close()
        await self._process.wait()
