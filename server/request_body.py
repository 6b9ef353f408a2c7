"""Read request bodies within limits of size, time and number: JSON, forms and files."""

import asyncio
import shutil
import tempfile
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from starlette.datastructures import UploadFile
from starlette.formparsers import MultiPartException, MultiPartParser
from starlette.requests import Request

from server.problem import Problem
from server.rate_limits import ClientSlots

# Bytes that a multipart form may have beside its file.
_FORM_OVERHEAD = 64 << 10
# Files that one client may be sending, or whose processing it may be waiting for. A browser opens six connections.
MAX_FILES_PER_CLIENT = 8
_files = ClientSlots(MAX_FILES_PER_CLIENT)


@dataclass(frozen=True)
class BodyLimit:
    """Limits for a request body; *subject* names the body in error messages.

    A client may pause for ``idle_timeout`` seconds, and after ``grace`` seconds its average rate must be at least
    ``min_rate`` bytes per second, so that a slow client cannot tie up resources.
    """

    subject: str
    max_bytes: int
    idle_timeout: float = 15.0
    grace: float = 30.0
    min_rate: int = 32 << 10


QUERY_IMAGE = BodyLimit("the picture", max_bytes=20 << 20)


def pictures_in_memory(most: int, memory: int) -> int:
    """Return how many pictures to search for may be held at once: *most*, or fewer that fit an eighth of *memory*."""
    return min(most, max(1, memory // 8 // QUERY_IMAGE.max_bytes))


@dataclass(frozen=True)
class ReceivedFile:
    """A file from a request body, and its name if the client sent one."""

    path: Path
    filename: str | None


def media_type(request: Request) -> str:
    """Return the media type of the body in lower case, without parameters; empty if the client sent none."""
    return request.headers.get("Content-Type", "").partition(";")[0].strip().lower()


async def read(request: Request, limit: BodyLimit) -> bytes:
    """Return the body; raise a 413 if it is too large and a 408 if it is too slow."""
    return b"".join([chunk async for chunk in _chunks(request, limit, limit.max_bytes)])


@asynccontextmanager
async def received_file(request: Request, limit: BodyLimit) -> AsyncIterator[ReceivedFile]:
    """Save the file that is the body, or the only file of a multipart form, and delete it when the block ends.

    Raises a 413 as soon as the file is too large, a 408 if it is too slow, a 400 for a form without exactly one file,
    and a 429 if the client is sending too many files already.
    """
    slots = _files.semaphore()
    if slots.locked():
        detail = f"you are sending {MAX_FILES_PER_CLIENT} files already: wait until one of them is done"
        raise Problem(429, detail, headers={"Retry-After": "1"})
    async with slots, AsyncExitStack() as stack:
        try:
            path = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="image-browser-")), "body")
            filename = await _save(request, path, limit)
        except OSError as exc:
            remedy = f"free space in {tempfile.gettempdir()}, or set TMPDIR"
            raise Problem(503, f"the server cannot store {limit.subject}: {exc.strerror}: {remedy}") from exc
        yield ReceivedFile(path, filename)


async def _save(request: Request, path: Path, limit: BodyLimit) -> str | None:
    if media_type(request) == "multipart/form-data":
        return await _save_part(request, path, limit)
    with path.open("wb") as file:
        async for chunk in _chunks(request, limit, limit.max_bytes):
            await asyncio.to_thread(file.write, chunk)
    return None


async def _save_part(request: Request, path: Path, limit: BodyLimit) -> str | None:
    """Save the file of a multipart form and return its name."""
    body = _chunks(request, limit, limit.max_bytes + _FORM_OVERHEAD)
    try:
        form = await MultiPartParser(request.headers, body, max_files=1, max_fields=10, max_part_size=4096).parse()
    except MultiPartException as exc:
        raise Problem(400, f"invalid form: {exc.message}") from exc
    try:
        part = next((value for value in form.values() if isinstance(value, UploadFile)), None)
        if part is None:
            raise Problem(400, "the form has no file: send the image as the form field `file`, or as the body itself")
        if (part.size or 0) > limit.max_bytes:
            raise _too_large(limit)
        with path.open("wb") as file:
            await asyncio.to_thread(shutil.copyfileobj, part.file, file)
        return part.filename
    finally:
        await form.close()


async def _chunks(request: Request, limit: BodyLimit, max_bytes: int) -> AsyncGenerator[bytes, None]:
    """Yield the body; raise a 413 as soon as it has more than *max_bytes*, and a 408 as soon as it is too slow."""
    if int(request.headers.get("Content-Length", "0")) > max_bytes:
        raise _too_large(limit)
    clock = asyncio.get_running_loop().time
    started, size = clock(), 0
    stream = request.stream()
    while True:
        try:
            deadline = min(clock() + limit.idle_timeout, started + limit.grace + size / limit.min_rate)
            async with asyncio.timeout_at(deadline):
                chunk = await anext(stream, None)
        except TimeoutError as exc:
            detail = f"{limit.subject} arrived too slowly: {size:,} bytes in {clock() - started:.0f} seconds"
            raise Problem(408, detail) from exc
        if chunk is None:
            return
        size += len(chunk)
        if size > max_bytes:
            raise _too_large(limit)
        yield chunk


def _too_large(limit: BodyLimit) -> Problem:
    return Problem(413, f"{limit.subject} is too large: send at most {limit.max_bytes:,} bytes")
