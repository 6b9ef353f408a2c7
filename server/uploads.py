"""Files that come with requests, on their way through: in a temporary file, and never larger than allowed."""

import asyncio
import shutil
import tempfile
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import ExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from starlette.datastructures import UploadFile
from starlette.formparsers import MultiPartException, MultiPartParser
from starlette.requests import ClientDisconnect, Request

from server.schemas.errors import Problem
from shared.errors import ImageRefused, Reason

# What a form may hold beside its file.
_FORM_BYTES = 64 << 10

_STATUS = {
    Reason.EMPTY: 400,
    Reason.KEY_INVALID: 400,
    Reason.KEY_TAKEN: 409,
    Reason.TOO_LARGE: 413,
    Reason.NOT_AN_IMAGE: 415,
    Reason.UNSUPPORTED: 415,
}


@dataclass(frozen=True)
class Upload:
    """A file that came with a request, and the name that the sender has for it, if it was told."""

    path: Path
    name: str | None


@asynccontextmanager
async def received(request: Request, *, most: int) -> AsyncIterator[Upload]:
    """The file that the request's body is, or that its form holds, for as long as the block lasts.

    Raises a 413 as soon as it has more than *most* bytes, and a 400 for a form without exactly one file.
    """
    with ExitStack() as stack:
        try:
            path = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="image-browser-")), "upload")
            name = await _save(request, path, most)
        except OSError as exc:
            remedy = f"make room in {tempfile.gettempdir()}, or set TMPDIR"
            raise Problem(503, f"the server cannot keep the file for a moment: {exc.strerror}: {remedy}") from exc
        yield Upload(path, name)


async def _save(request: Request, path: Path, most: int) -> str | None:
    if request.headers.get("Content-Type", "").lower().startswith("multipart/form-data"):
        return await _save_part(request, path, most)
    with path.open("wb") as file:
        async for piece in _bounded(request, most, most):
            await asyncio.to_thread(file.write, piece)
    return None


async def _bounded(request: Request, allowed: int, most: int) -> AsyncGenerator[bytes, None]:
    if getattr(request.state, "body_was_read", False):  # it started over
        detail = "the collection changed while the file was on its way: send it again"
        raise Problem(503, detail, headers={"Retry-After": "1"})
    request.state.body_was_read = True
    if int(request.headers.get("Content-Length", "0")) > allowed:
        raise _too_large(most)
    size = 0
    try:
        async for piece in request.stream():
            size += len(piece)
            if size > allowed:
                raise _too_large(most)
            yield piece
    except ClientDisconnect as exc:
        raise Problem(400, "the file was not sent to its end") from exc


async def _save_part(request: Request, path: Path, most: int) -> str | None:
    body = _bounded(request, most + _FORM_BYTES, most)
    try:
        form = await MultiPartParser(request.headers, body, max_files=1, max_fields=10, max_part_size=4096).parse()
    except MultiPartException as exc:
        raise Problem(400, f"the form cannot be read: {exc.message}") from exc
    try:
        parts = [part for part in form.values() if isinstance(part, UploadFile)]
        if not parts:
            raise Problem(400, "file is missing: send the image as the form's part `file`, or as the body itself")
        if (parts[0].size or 0) > most:
            raise _too_large(most)
        with path.open("wb") as file:
            await asyncio.to_thread(shutil.copyfileobj, parts[0].file, file)
        return parts[0].filename
    finally:
        await form.close()


def _too_large(most: int) -> Problem:
    return Problem(413, f"the file is larger than {most:,} bytes, which is the most that this server takes")


def refused(refusal: ImageRefused) -> Problem:
    """Return what the sender of an image is told that is no good."""
    return Problem(_STATUS.get(refusal.reason, 422), refusal.detail)
