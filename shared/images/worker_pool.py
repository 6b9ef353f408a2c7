"""Pool of killable worker processes that decode untrusted image files.

Decoders are large C programs that read hostile input: they can crash, hang or exhaust memory. Each runs in a process
of its own (``shared.images.worker``) with a memory and a time limit, so that a bad file costs one image, not the run,
and in a sandbox (``shared.images.sandbox``), so that a decoder that is taken over can neither read nor send anything.

Every worker has its own socket and shares nothing with the others. ``multiprocessing`` and the pools built on
it (pebble, concurrent.futures) were rejected: their workers share a queue and its lock, so killing one can block all;
each worker imports the main module again, which takes ours two seconds; and workers were seen to outlive a killed
parent.
"""

import asyncio
import logging
import os
import signal
import socket
import sys
from asyncio.subprocess import DEVNULL, Process
from collections.abc import Callable, Sequence
from contextlib import ExitStack, suppress
from functools import cache
from pathlib import Path
from typing import Any, BinaryIO, ParamSpec, Self, TypeVar, cast, get_origin, get_type_hints

import numpy as np
from pydantic import InstanceOf, TypeAdapter

from shared.errors import ImageRefused, Reason
from shared.images import decode_memory
from shared.images.worker_protocol import LENGTH_BYTES, TASKS, pack, task_name, unpack
from shared.local_files import open_regular

log = logging.getLogger(__name__)

P = ParamSpec("P")
T = TypeVar("T")

TIME_LIMIT = 60.0  # seconds per image
REPLY_LIMIT = 64 << 20  # bytes; the largest replies contain a preview of a few hundred kilobytes
_REQUESTS_PER_WORKER = 1000  # then it is replaced, which bounds memory leaks of decoders
_DETAIL_LENGTH = 500  # characters
# Environment variables that a worker inherits, if set: Python and its libraries may not load without them.
_INHERITED = ("PATH", "LD_LIBRARY_PATH", "DYLD_LIBRARY_PATH", "PYTHONHOME", "PYTHONPYCACHEPREFIX", "PYTHONUTF8", "LANG")


class DecoderPool:
    """Decoder workers, each started when first needed. Belongs to one event loop."""

    def __init__(
        self,
        size: int | None = None,
        *,
        time_limit: float = TIME_LIMIT,
        memory_limit: int | None = None,
        tasks: frozenset[str] = TASKS,
        processes: int = 1,
    ) -> None:
        """Run up to *size* workers, by default as many as processors and memory allow.

        *memory_limit* is in bytes for one image, by default what fits the machine. *tasks* is the allow-list of
        ``run``. *processes* with a pool of their own share the memory.
        """
        memory, processors = decode_memory.machine_memory(), os.cpu_count() or 1
        self._time_limit = time_limit
        self._memory_limit = memory_limit or decode_memory.default_limit(memory, processors, processes)
        self._size = size or decode_memory.worker_count(memory // processes, processors, self._memory_limit)
        self._tasks = tasks
        self._slots = asyncio.Semaphore(self._size)
        self._workers: set[_Worker] = set()
        self._idle: list[_Worker] = []
        self._starting: list[asyncio.Task[None]] = []
        self._sandbox_gaps: list[str] | None = None
        self._closed = False

    def start(self) -> None:
        """Start all workers in the background, ahead of the first image."""
        self._starting = [asyncio.create_task(self._start_one()) for _ in range(self._size)]

    async def run(self, task: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> T:
        """Return ``task(*args, **kwargs)``, computed in a worker.

        Pass the path of a file rather than its bytes where there is one, which saves copying them: the task gets the
        open file. Raises ImageRefused if the task raises it, if a file cannot be opened, or if the worker ran out of
        time or memory, crashed, or sent an invalid reply. Raises ValueError for a task that is not on the allow-list
        and RuntimeError for a bug in a task. Cancelling the call kills its worker.
        """
        name = task_name(task)
        if name not in self._tasks:
            raise ValueError(f"{name} is not a decoder task")
        paths = [value for value in (*args, *kwargs.values()) if isinstance(value, Path)]
        async with self._slots:
            request = pack([name, args, kwargs])  # here, because it copies the bytes of an image
            # A thread: opening a file on a network file system may take long.
            files = await asyncio.to_thread(_open, paths) if paths else []
            worker = await self._take()
            try:
                result, failure = _parse(await worker.request(request, files), task)
            except _WorkerExited as exc:
                await self._discard(worker)
                self._check_open()
                raise self._refusal(exc.status) from exc
            except BaseException as exc:
                await self._discard(worker)
                if isinstance(exc, _InvalidReply):
                    raise ImageRefused(Reason.CORRUPT, "the decoder sent an invalid reply") from exc
                raise
            await self._give_back(worker)
        if failure:
            raise failure
        return cast(T, result)

    async def sandbox_gaps(self) -> list[str]:
        """Return a sentence about each restriction that this system cannot impose on decoders."""
        async with self._slots:
            await self._give_back(await self._take())
        return self._sandbox_gaps or []

    async def close(self) -> None:
        """Kill all workers; pending calls raise RuntimeError."""
        self._closed = True
        for task in self._starting:
            task.cancel()
        await asyncio.gather(*self._starting, return_exceptions=True)
        self._idle.clear()
        await asyncio.gather(*(worker.stop() for worker in self._workers))
        self._workers.clear()

    async def _start_one(self) -> None:
        with suppress(RuntimeError):  # the next call of run() reports why no worker starts
            async with self._slots:
                self._idle.append(await self._take())

    async def _take(self) -> "_Worker":
        self._check_open()
        while self._idle:
            worker = self._idle.pop()
            if worker.alive:
                return worker
            await self._discard(worker)
        worker = await _Worker.start([str(self._memory_limit), str(self._time_limit), *sorted(self._tasks)])
        if self._closed:
            await worker.stop()
        self._check_open()
        self._workers.add(worker)
        if self._sandbox_gaps is None:
            self._sandbox_gaps = worker.sandbox_gaps
            for gap in worker.sandbox_gaps:
                log.warning("%s", gap)
        return worker

    async def _give_back(self, worker: "_Worker") -> None:
        if worker.requests < _REQUESTS_PER_WORKER and not self._closed:
            self._idle.append(worker)
        else:
            await self._discard(worker)

    async def _discard(self, worker: "_Worker") -> None:
        self._workers.discard(worker)
        await worker.stop()

    def _check_open(self) -> None:
        if self._closed:
            raise RuntimeError("the decoder pool is closed")

    def _refusal(self, status: int) -> ImageRefused:
        if status == -signal.SIGALRM:
            # Not final: the machine may have been busy.
            detail = f"decoding took longer than {self._time_limit:g} s"
            return ImageRefused(Reason.DECODE_TIMEOUT, detail, final=False)
        if status == -signal.SIGKILL:
            detail = "the system killed the decoder, most likely because memory ran out: lower DECODE_MEMORY_MB"
            return ImageRefused(Reason.DECODE_MEMORY, detail, final=False)
        return ImageRefused(Reason.CORRUPT, f"the decoder crashed (exit status {status})")


class _InvalidReply(Exception):
    """The worker sent something that no task returns: its decoder may have been taken over."""


def _parse(reply: bytes, task: Callable[..., object]) -> tuple[Any, Exception | None]:
    """Return the result and the failure in *reply*, one of them None. Raises _InvalidReply."""
    try:
        match unpack(reply):
            case {"result": value}:
                return _result_type(task).validate_python(value), None
            case {"failure": [str(kind), str(reason), str(detail), bool(final)]}:
                return None, _failure(kind, reason, detail, final=final)
    except ValueError as exc:
        raise _InvalidReply(str(exc)) from exc
    raise _InvalidReply("neither a result nor a failure")


@cache
def _result_type(task: Callable[..., object]) -> TypeAdapter[Any]:
    """Return a validator for the annotated result of *task*, so that a reply cannot choose its own type."""
    declared = get_type_hints(task)["return"]
    return TypeAdapter(InstanceOf[np.ndarray] if get_origin(declared) is np.ndarray else declared)


def _failure(kind: str, reason: str, detail: str, *, final: bool) -> Exception:
    if kind == "refused":
        printable = "".join(c if c.isprintable() else " " for c in detail[:_DETAIL_LENGTH])
        return ImageRefused(Reason(reason), printable, final=final)
    if kind == "out of memory":
        return ImageRefused(Reason.DECODE_MEMORY, "decoding needs more memory than DECODE_MEMORY_MB")
    if kind == "bug":
        bug = RuntimeError(f"a decoder task failed: {reason}")
        bug.add_note(detail)
        return bug
    raise ValueError(f"unknown kind of failure: {kind}")


_GAPS = TypeAdapter(list[str])


def _open(paths: Sequence[Path]) -> list[BinaryIO]:
    try:
        return [open_regular(path) for path in paths]
    except OSError as exc:
        raise ImageRefused(Reason.UNREADABLE, f"cannot read the file: {exc.strerror}", final=False) from exc


class _WorkerExited(Exception):
    def __init__(self, status: int) -> None:
        super().__init__(f"a decoder worker exited with status {status}")
        self.status = status


class _Worker:
    """One process that answers one request at a time."""

    def __init__(
        self, process: Process, connection: socket.socket, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        self._process = process
        self._connection = connection
        self._reader = reader
        self._writer = writer
        self.requests = 0
        self.sandbox_gaps: list[str] = []

    @classmethod
    async def start(cls, arguments: list[str]) -> Self:
        """Start a process and return when it is ready."""
        environment = {name: os.environ[name] for name in _INHERITED if name in os.environ} | {
            # The worker finds the same packages.
            "PYTHONPATH": os.pathsep.join(path or os.getcwd() for path in sys.path),
            # Workers run in parallel already, and threads cost address space.
            "OMP_NUM_THREADS": "1",
            "OPENBLAS_NUM_THREADS": "1",
            # glibc returns the memory of pictures to the system at once.
            "MALLOC_MMAP_THRESHOLD_": str(1 << 20),
        }
        ours, theirs = socket.socketpair()
        # No flow control: asyncio would not notice the end of a process whose reply is half read.
        reader, writer = await asyncio.open_unix_connection(sock=ours, limit=sys.maxsize)
        try:
            process = await asyncio.create_subprocess_exec(
                # -P: without it, modules in the current folder, such as one of photos, would be found first.
                *(sys.executable, "-P", "-m", "shared.images.worker", *arguments),
                stdin=theirs.fileno(),
                stdout=DEVNULL,
                env=environment,
                # Ctrl-C in a terminal reaches only the parent, which then stops its workers.
                start_new_session=True,
            )
        except BaseException:
            writer.close()
            raise
        finally:
            theirs.close()
        worker = cls(process, ours, reader, writer)
        try:
            worker.sandbox_gaps = _GAPS.validate_python(unpack(await worker._reply()))
        except _WorkerExited as exc:
            raise RuntimeError(f"the decoder worker could not start (exit status {exc.status})") from exc
        except BaseException:
            await worker.stop()
            raise
        return worker

    @property
    def alive(self) -> bool:
        """Return whether the process has not been seen to exit."""
        return self._process.returncode is None

    async def request(self, message: bytes, files: Sequence[BinaryIO]) -> bytes:
        """Close *files*, and return the reply to *message* about them. Raises _WorkerExited and _InvalidReply."""
        self.requests += 1
        with suppress(ConnectionError), ExitStack() as stack:  # reading the reply detects a dead process
            descriptors = [stack.enter_context(file).fileno() for file in files]
            # The worker has read all earlier messages, so this cannot block.
            socket.send_fds(self._connection, [len(message).to_bytes(LENGTH_BYTES)], descriptors)
            self._writer.write(message)
            await self._writer.drain()
        return await self._reply()

    async def _reply(self) -> bytes:
        try:
            length = int.from_bytes(await self._reader.readexactly(LENGTH_BYTES))
            if length > REPLY_LIMIT:
                raise _InvalidReply(f"a reply of {length:,} bytes")
            return await self._reader.readexactly(length)
        except (asyncio.IncompleteReadError, ConnectionError):
            raise _WorkerExited(await self._process.wait()) from None

    async def stop(self) -> None:
        """Kill the process and wait for its end."""
        with suppress(ProcessLookupError):
            self._process.kill()
        self._writer.close()
        await self._process.wait()
