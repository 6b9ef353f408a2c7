"""Read request bodies within a limit of size and time: JSON, forms and files."""

import asyncio
import shutil
import tempfile
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import ExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from starlette.datastructures import UploadFile
from starlette.formparsers import MultiPartException, MultiPartParser
from starlette.requests import Request

from server.problem import Problem

# Bytes that a multipart form may have beside its file.
_FORM_OVERHEAD = 64 << 10


@dataclass(frozen=True)
class BodyLimit:
    """Limits for a request body; *subject* names the body in error messages.

    The timeout is for the whole body, in seconds, so that a slow client cannot tie up resources.
    """

    subject: str
    max_bytes: int
    timeout: float


QUERY_IMAGE = BodyLimit("the picture", max_bytes=20 << 20, timeout=60.0)


@dataclass(frozen=True)
class ReceivedFile:
    """A file from a request body, and its name if the client sent one."""

    path: Path
    filename: str | None


def media_type(request: Request) -> str:
    """Return the media type of the body in lower case, without parameters; empty if the client sent none."""
    return request.headers.get("Content-Type", "").partition(";")[0].strip().lower()


async def read(request: Request, limit: BodyLimit) -> bytes:
    """Return the body; raise a 413 if it is too large and a 408 if it takes too long."""
    async with _timeout(limit):
        return b"".join([chunk async for chunk in _chunks(request, limit, limit.max_bytes)])


@asynccontextmanager
async def received_file(request: Request, limit: BodyLimit) -> AsyncIterator[ReceivedFile]:
    """Save the file that is the body, or the only file of a multipart form, and delete it when the block ends.

    Raises a 413 as soon as the file is too large, a 408 if it takes too long, and a 400 for a form without exactly one
    file.
    """
    with ExitStack() as stack:
        try:
            path = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="image-browser-")), "body")
            async with _timeout(limit):
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
    """Yield the body; raise a 413 as soon as it has more than *max_bytes*."""
    if int(request.headers.get("Content-Length", "0")) > max_bytes:
        raise _too_large(limit)
    size = 0
    async for chunk in request.stream():
        size += len(chunk)
        if size > max_bytes:
            raise _too_large(limit)
        yield chunk


@asynccontextmanager
async def _timeout(limit: BodyLimit) -> AsyncIterator[None]:
    try:
        async with asyncio.timeout(limit.timeout):
            yield
    except TimeoutError as exc:
        raise Problem(408, f"{limit.subject} did not arrive within {limit.timeout:g} seconds") from exc


def _too_large(limit: BodyLimit) -> Problem:
    return Problem(413, f"{limit.subject} is too large: send at most {limit.max_bytes:,} bytes")
