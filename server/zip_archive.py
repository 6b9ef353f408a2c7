"""ZIP archives of originals, made while they are sent: memory and disk hold one image at a time."""

import asyncio
import re
import tempfile
import unicodedata
import zlib
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Coroutine, Generator, Iterator, Sequence
from concurrent.futures import CancelledError, Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any, TypeVar

from stream_zip import NO_COMPRESSION_64, MemberFile, stream_zip

from shared.errors import StoreError
from shared.models import Hit, Image
from shared.stores.base import ObjectStore

T = TypeVar("T")

_PIECE = 1 << 18  # bytes read and sent at once
_MODE = 0o100644  # a regular file
_MAX_NAME_BYTES = 255  # of a file or folder, on every common file system
# Characters that are not allowed in file names on Windows, or that change how a name is displayed.
_UNSAFE = re.compile(r'[\x00-\x1f\x7f-\x9f<>:"\\|?*\u200e\u200f\u202a-\u202e\u2066-\u2069]')
_DEVICE = re.compile(r"(con|prn|aux|nul|com[0-9]|lpt[0-9])(\..*)?", re.IGNORECASE)


async def stream(store: ObjectStore, pages: AsyncIterator[Sequence[Hit]]) -> AsyncGenerator[bytes, None]:
    """Yield a ZIP64 archive of the originals of *pages*, without compression: images are compressed already.

    An original that cannot be read is replaced by a text file with the reason. Closing the iterator ends the reads.
    """
    loop = asyncio.get_running_loop()
    calls = _LoopCalls(loop)
    members = _members(store, pages, calls)
    pieces = iter(stream_zip(members, chunk_size=_PIECE))
    # A thread of its own: it waits for the store, and the threads of the loop are few.
    thread = ThreadPoolExecutor(1, thread_name_prefix="zip")
    try:
        while piece := await loop.run_in_executor(thread, next, pieces, b""):
            yield piece
    finally:
        calls.cancel()
        thread.submit(members.close)
        thread.shutdown(wait=False)


class _LoopCalls:
    """Calls of coroutines from another thread, which ``cancel`` ends."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._running: Future[Any] | None = None
        self._cancelled = False

    def __call__(self, call: Callable[..., Coroutine[Any, Any, T]], *args: Any) -> T:
        """Return ``await call(*args)``; raise CancelledError after ``cancel``."""
        if self._cancelled:
            raise CancelledError
        future = asyncio.run_coroutine_threadsafe(call(*args), self._loop)
        self._running = future
        return future.result()

    def cancel(self) -> None:
        """Cancel the running call and refuse further ones."""
        self._cancelled = True
        if self._running:
            self._running.cancel()


def _members(
    store: ObjectStore, pages: AsyncIterator[Sequence[Hit]], call: _LoopCalls
) -> Generator[MemberFile, None, None]:
    async def next_page() -> Sequence[Hit] | None:
        return await anext(pages, None)

    names = MemberNames()
    with tempfile.TemporaryDirectory(prefix="image-browser-") as folder:
        while (page := call(next_page)) is not None:
            for hit in page:
                yield _member(store, hit.image, names, Path(folder, "original"), call)


def _member(store: ObjectStore, image: Image, names: "MemberNames", path: Path, call: _LoopCalls) -> MemberFile:
    """Return the original of *image*, downloaded to *path*, or a note why it is missing."""
    suffix = ""
    try:
        call(store.download, image.key, path)
    except StoreError as exc:
        if exc.transient:  # an outage must not look like a complete archive
            raise
        suffix = ".missing.txt"
        path.write_text(f"{image.key}: {exc}\n")
    crc = 0
    for piece in _pieces(path):
        crc = zlib.crc32(piece, crc)
    time = image.taken_local or image.created_at
    return names.add(image.key + suffix), time, _MODE, NO_COMPRESSION_64(path.stat().st_size, crc), _pieces(path)


def _pieces(path: Path) -> Iterator[bytes]:
    with path.open("rb") as file:
        while piece := file.read(_PIECE):
            yield piece


class MemberNames:
    """Paths of files in an archive that unpack everywhere, each into a file of its own."""

    def __init__(self) -> None:
        self._is_folder: dict[str, bool] = {}
        self._last_numbers: dict[str, int] = {}

    def add(self, key: str) -> str:
        """Return the path for *key*, made safe, with a number where a file has the same name."""
        *folders, name = [_safe(part) for part in key.split("/") if part not in {"", ".", ".."}] or ["image"]
        path = ""
        for folder in folders:
            path = f"{self._free(path, folder, is_folder=True)}/"
        return self._free(path, name, is_folder=False)

    def _free(self, parent: str, name: str, *, is_folder: bool) -> str:
        wanted = _folded(parent + name)
        number, path = 1, parent + name
        while (folded := _folded(path)) in self._is_folder and not (is_folder and self._is_folder[folded]):
            number = max(number, self._last_numbers.get(wanted, 0)) + 1
            path = parent + _cut(name, f" ({number})")
        self._is_folder[folded] = is_folder
        if number > 1 and not is_folder:
            self._last_numbers[wanted] = number
        return path


def _folded(path: str) -> str:
    # File systems may ignore case and the composition of letters.
    return unicodedata.normalize("NFC", path).casefold()


def _safe(part: str) -> str:
    """Return a path's *part* as a name that is valid on Windows too."""
    name = _UNSAFE.sub("_", part).rstrip(". ") or "_"
    return _cut(f"_{name}" if _DEVICE.fullmatch(name) else name, "")


def _cut(name: str, mark: str) -> str:
    """Return *name* with *mark* before its extension, cut to the longest name that file systems allow."""
    path = Path(name)
    suffix = path.suffix if len(path.suffix.encode()) <= 20 else ""
    stem = name.removesuffix(suffix).encode()
    room = _MAX_NAME_BYTES - len((mark + suffix).encode())
    return stem[:room].decode(errors="ignore") + mark + suffix
